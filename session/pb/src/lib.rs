//! Wire types of the services that a client session offers.
#![forbid(unsafe_code)]
