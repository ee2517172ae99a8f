//! The build client.
fn main() {}
