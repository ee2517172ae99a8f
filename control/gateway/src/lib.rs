//! Routes bridge calls on the main socket to the build that they belong to.
#![forbid(unsafe_code)]
