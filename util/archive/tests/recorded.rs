//! Layers have the bytes that the original's overlay differ (moby/buildkit 73ed6825c) writes. Needs root.

mod common;

use buildkit_util_archive::{WriteOptions, write_layer};
use buildkit_util_cachedigest::Digest;
use buildkit_util_overlay::Stack;
use common::Tree;
use common::trees::{build, shapes};

#[test]
fn layers_have_the_bytes_of_the_original() {
    let mut differ = Vec::new();
    for shape in shapes() {
        let tree = Tree::new();
        let (below, top) = build(&shape, &tree);
        let below: Vec<_> = below.iter().rev().map(|layer| layer.path()).collect();
        let lower = (!below.is_empty()).then(|| Stack::new(below.clone()).expect("stack"));
        let upper = Stack::new([vec![top.path()], below].concat()).expect("stack");
        let mut layer = Vec::new();
        write_layer(lower.as_ref(), Some(&upper), &mut layer, &WriteOptions::default()).expect("writes");
        if Digest::sha256(&layer).as_str() != shape.digest {
            differ.push(shape.name);
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
}

#[test]
fn trees_are_compared_if_they_share_no_layer() {
    let tree = Tree::new();
    let (old, new) = (tree.dir("old"), tree.dir("new"));
    for layer in [&old, &new] {
        layer.file("same", "x").file("a/kept", "k").hard_link("a/kept", "a/other").file("unrelated", "u");
    }
    old.file("gone", "x");
    new.file("a/new", "n").hard_link("a/kept", "z");
    let stack = |path| Stack::new(vec![path]).expect("stack");
    let mut layer = Vec::new();
    let (old, new) = (stack(old.path()), stack(new.path()));
    write_layer(Some(&old), Some(&new), &mut layer, &WriteOptions::default()).expect("writes");
    let mut reader = buildkit_util_archive::Reader::new(layer.as_slice());
    let mut names = Vec::new();
    while let Some(header) = reader.entry().expect("valid") {
        names.push(format!(
            "{}{}",
            String::from_utf8_lossy(&header.name),
            if header.kind == b'1' { "=" } else { "" }
        ));
    }
    // Unchanged names of a file become links to its new name.
    assert_eq!(names, ["a/", "a/new", ".wh.gone", "z", "a/kept=", "a/other="]);

    let mut nothing = Vec::new();
    write_layer(Some(&new), Some(&new), &mut nothing, &WriteOptions::default()).expect("writes");
    assert_eq!(nothing, [0; 1024]);
    write_layer(None, None, &mut Vec::new(), &WriteOptions::default()).expect("writes");
}

#[test]
fn layers_of_windows_are_below_files() {
    let tree = Tree::new();
    let top = tree.dir("top");
    top.file("dir/file", "x").hard_link("dir/file", "link");
    let stack = Stack::new(vec![top.path()]).expect("stack");
    let mut layer = Vec::new();
    let options = WriteOptions { windows: true };
    write_layer(None, Some(&stack), &mut layer, &options).expect("writes");
    let mut reader = buildkit_util_archive::Reader::new(layer.as_slice());
    let mut entries = Vec::new();
    while let Some(header) = reader.entry().expect("valid") {
        let attributes = header.records.get(b"MSWINDOWS.fileattr".as_slice()).cloned().unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        entries.push((text(&header.name), text(&header.link), text(&attributes)));
    }
    let expected = [
        ("Hives", "", "16"),
        ("Files", "", "16"),
        ("Files/dir/", "", "16"),
        ("Files/dir/file", "", "32"),
        ("Files/link", "Files/dir/file", ""),
    ];
    let expected = expected.map(|(name, link, kind)| (name.to_owned(), link.to_owned(), kind.to_owned()));
    assert_eq!(entries, expected);

    let applied = tree.dir("applied");
    let options = buildkit_util_archive::ApplyOptions {
        windows: true,
        ..buildkit_util_archive::ApplyOptions::new(buildkit_util_archive::Whiteouts::Remove)
    };
    buildkit_util_archive::apply_layer(&applied.path(), &mut layer.as_slice(), &options).expect("applies");
    let applied = Stack::new(vec![applied.path()]).expect("stack");
    assert_eq!(common::listing(&applied), common::listing(&stack));
}
