//! The graph that builds this project, cloning apart for concurrency.
fn main() {}
