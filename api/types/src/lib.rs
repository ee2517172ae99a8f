//! Wire types shared by the control API.
#![forbid(unsafe_code)]
