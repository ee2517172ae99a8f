//! Rewraps a layer from one compression or tar dialect to another.
#![forbid(unsafe_code)]
