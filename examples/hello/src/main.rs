//! A graph with parallel steps on a busybox root file system.
fn main() {}
