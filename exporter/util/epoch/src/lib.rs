//! SOURCE_DATE_EPOCH: times that make builds repeatable.
#![forbid(unsafe_code)]
