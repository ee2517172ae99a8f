//! Shows build progress on a terminal, as plain text or as JSON.
#![forbid(unsafe_code)]
