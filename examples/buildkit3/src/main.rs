//! The graph that builds this project with local sources for chosen components.
fn main() {}
