//! The graph that builds this project from git sources.
fn main() {}
