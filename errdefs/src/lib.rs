//! Error vocabulary shared by all crates: whose fault an error is and how it maps to gRPC codes.
#![forbid(unsafe_code)]
