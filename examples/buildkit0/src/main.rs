//! The graph that builds this project, one exec per component.
fn main() {}
