//! Structured concurrency: the only place that spawns tasks and handles process signals.
#![forbid(unsafe_code)]
