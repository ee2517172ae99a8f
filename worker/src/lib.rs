//! Port of workers in roles, and the controller that holds them.
#![forbid(unsafe_code)]
