//! A build that builds the graph of another build.
fn main() {}
