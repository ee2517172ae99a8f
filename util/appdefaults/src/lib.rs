//! Default addresses, roots and configuration paths.
#![forbid(unsafe_code)]
