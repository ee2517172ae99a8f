//! Runs one piece of work per key for all that ask, cancelled with the last of them.
#![forbid(unsafe_code)]
