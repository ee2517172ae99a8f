//! Serves the bridge of one build to the client or frontend that drives it.
#![forbid(unsafe_code)]
