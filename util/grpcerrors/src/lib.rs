//! Carries typed errors over gRPC in upstream's form.
#![forbid(unsafe_code)]
