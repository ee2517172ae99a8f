//! Secrets from files and environment variables.
#![forbid(unsafe_code)]

mod store;

pub use store::{Secret, SecretFrom, Store, StoreError};
