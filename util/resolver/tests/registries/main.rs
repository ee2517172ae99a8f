//! Registries of all kinds: broken ones, hostile ones, private ones, real ones.

mod credentials;
mod insecure;
mod pull_faults;
mod push_faults;
mod real;
mod support;
