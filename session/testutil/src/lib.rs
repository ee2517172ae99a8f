//! A connected pair of session ends for tests.
#![forbid(unsafe_code)]
