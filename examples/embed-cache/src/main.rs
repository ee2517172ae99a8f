//! The cache crate alone in another program.
fn main() {}
