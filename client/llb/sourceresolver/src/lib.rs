//! What is asked and answered about a source that is not fetched.
#![forbid(unsafe_code)]
