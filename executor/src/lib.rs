//! Port of executors: run one process in a container.
#![forbid(unsafe_code)]
