//! Layers that are written and applied again. Needs root, for owners, devices and overlays' attributes.

mod common;

use buildkit_util_archive::{ApplyOptions, Whiteouts, WriteOptions, apply_layer, write_layer};
use buildkit_util_overlay::Stack;
use common::{Tree, listing};

#[test]
fn a_layer_is_applied_as_it_was() {
    let tree = Tree::new();
    let base = tree.dir("base");
    base.file("kept", "kept").file("gone", "x").file("dir/gone", "x").file("dir/kept", "y");
    base.file("opaque/old", "x").file("swapped/old", "x").file("linked", "content");
    let upper = tree.dir("upper");
    upper.file("new", "new").whiteout("gone").whiteout("dir/gone").file("dir/new", "z");
    upper.file("opaque/new", "x").opaque("opaque").file("swapped", "now a file");
    upper.symlink("link", "../outside").hard_link("new", "dir/hard");
    let lower = Stack::new(vec![base.path()]).expect("stack");
    let stack = Stack::new(vec![upper.path(), base.path()]).expect("stack");

    let mut layer = Vec::new();
    write_layer(Some(&lower), Some(&stack), &mut layer, &WriteOptions::default()).expect("write");

    let applied = tree.dir("applied");
    let options = ApplyOptions::new(Whiteouts::Overlay { userxattr: false });
    apply_layer(&applied.path(), &mut layer.as_slice(), &options).expect("apply");
    let again = Stack::new(vec![applied.path(), base.path()]).expect("stack");
    assert_eq!(listing(&again), listing(&stack));
    let mut second = Vec::new();
    write_layer(Some(&lower), Some(&again), &mut second, &WriteOptions::default()).expect("write");
    assert!(layer == second, "the same layer is written again");

    // In a plain directory.
    let mut whole = Vec::new();
    write_layer(None, Some(&lower), &mut whole, &WriteOptions::default()).expect("write");
    let plain = tree.dir("plain");
    let options = ApplyOptions::new(Whiteouts::Remove);
    apply_layer(&plain.path(), &mut whole.as_slice(), &options).expect("apply");
    let plain_stack = Stack::new(vec![plain.path()]).expect("stack");
    assert_eq!(listing(&plain_stack), listing(&lower));
    apply_layer(&plain.path(), &mut layer.as_slice(), &options).expect("apply");
    assert_eq!(listing(&plain_stack), listing(&stack));
}

#[test]
fn trees_may_be_as_deep_as_paths_are_long() {
    let tree = Tree::new();
    let top = tree.dir("top");
    let depth = (4000 - top.path().as_os_str().len()) / 2;
    let mut deepest = top.path();
    for _ in 0..depth {
        deepest.push("d");
        std::fs::create_dir(&deepest).expect("mkdir");
    }
    let base = tree.dir("base");
    let below = Stack::new(vec![base.path()]).expect("stack");
    for lower in [None, Some(&below)] {
        let layers = lower.iter().flat_map(|lower| lower.layers().to_vec());
        let upper = Stack::new(std::iter::once(top.path()).chain(layers).collect()).expect("stack");
        let mut layer = Vec::new();
        write_layer(lower, Some(&upper), &mut layer, &WriteOptions::default()).expect("writes");
        let applied = tree.dir("applied");
        let options = ApplyOptions::new(Whiteouts::Remove);
        let applied = apply_layer(&applied.path(), &mut layer.as_slice(), &options).expect("applies");
        assert_eq!(applied.entries, depth as u64);
        // As between trees that share nothing.
        write_layer(
            Some(&below),
            Some(&Stack::new(vec![top.path()]).expect("stack")),
            &mut Vec::new(),
            &WriteOptions::default(),
        )
        .expect("writes");
    }
}
