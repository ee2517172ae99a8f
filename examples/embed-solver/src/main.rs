//! The solver crate alone in another program.
fn main() {}
