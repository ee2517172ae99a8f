//! Development tasks: code generation and repository checks.
fn main() {}
