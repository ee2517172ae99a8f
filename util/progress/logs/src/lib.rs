//! Turns process output into progress logs within limits, never losing the tail.
#![forbid(unsafe_code)]
