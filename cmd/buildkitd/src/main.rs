//! The build daemon.
fn main() {}
