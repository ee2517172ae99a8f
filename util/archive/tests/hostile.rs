//! Layers that want more than to be applied. Needs root.

mod common;

use std::path::Path;

use buildkit_util_archive::{ApplyOptions, Header, Time, Whiteouts, Writer, apply_layer, kind};
use buildkit_util_overlay::Stack;
use common::corpus::{CANARY, Case, Same, archive, base, canary, cases};
use common::{Tree, listing};

/// What a layer comes to: lines of the tree, or why it is refused.
fn apply(case: &Case, overlay: bool) -> Result<Vec<String>, String> {
    let tree = Tree::new();
    let below = tree.dir("base");
    base(&below);
    let layer = archive(&case.entries);
    let lower = Stack::new(vec![below.path()]).expect("stack");
    if !overlay {
        let options = ApplyOptions::new(Whiteouts::Remove);
        return match apply_layer(&below.path(), &mut layer.as_slice(), &options) {
            Ok(_) => Ok(listing(&lower)),
            Err(error) => Err(error.to_string()),
        };
    }
    let upper = tree.dir("upper");
    let options = ApplyOptions::new(Whiteouts::Overlay { userxattr: false }).with_lower(Some(&lower));
    let before = listing(&lower);
    let result = apply_layer(&upper.path(), &mut layer.as_slice(), &options);
    assert_eq!(listing(&lower), before, "{}: the layer below changed", case.name);
    let stack = Stack::new(vec![upper.path(), below.path()]).expect("stack");
    result.map_err(|error| error.to_string())?;
    let seen = listing(&stack);
    assert_eq!(
        mounted(&tree, &upper.path(), &below.path()),
        seen,
        "{}: the kernel sees another tree",
        case.name
    );
    Ok(seen)
}

/// What the kernel shows of two layers.
fn mounted(tree: &Tree, upper: &Path, lower: &Path) -> Vec<String> {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let target = tree.dir("mounted").path();
    let options = format!("lowerdir={}:{}", upper.display(), lower.display());
    let options = std::ffi::CString::new(options).expect("no NUL");
    mount("overlay", &target, "overlay", MountFlags::RDONLY, options.as_c_str()).expect("mounts");
    let seen = listing(&Stack::new(vec![target.clone()]).expect("stack"));
    unmount(&target, UnmountFlags::DETACH).expect("unmounts");
    seen
}

struct Canary(Vec<String>);

impl Canary {
    fn new() -> Self {
        std::fs::create_dir_all(canary()).expect("mkdir");
        std::fs::write(Path::new(canary()).join("file"), "canary").expect("write");
        Self(Self::listing())
    }

    fn listing() -> Vec<String> {
        listing(&Stack::new(vec![canary().into()]).expect("stack"))
    }

    fn check(&self, case: &str) {
        assert_eq!(Self::listing(), self.0, "{case}: something outside changed");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(canary()).expect("stat"));
        assert_eq!(mode & 0o777, 0o755, "{case}");
        assert!(!Path::new("/tmp/escaped").exists(), "{case}");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(canary());
    }
}

#[test]
fn a4_01_hand_made_layers() {
    let outside = Canary::new();
    let mut report = String::new();
    for case in cases() {
        let plain = apply(&case, false);
        outside.check(case.name);
        let overlay = apply(&case, true);
        outside.check(case.name);
        report += &format!("# {}\n", case.name);
        let mut tell = |title: &str, result: &Result<Vec<String>, String>| {
            let lines = match result {
                Ok(lines) => lines.clone(),
                Err(error) => vec![format!("refused: {error}")],
            };
            report += title;
            for line in lines {
                report += &format!("{line}\n");
            }
        };
        tell("", &plain);
        match case.same {
            Same::Yes => assert_eq!(overlay.as_ref().ok(), plain.as_ref().ok(), "{}", case.name),
            Same::No => tell("as a layer of an overlay:\n", &overlay),
        }
    }
    let report = report.replace(&canary()[1..], &CANARY[1..]);
    let expected = include_str!("data/hand_made.txt");
    if report != expected {
        std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("hand_made.txt"), &report).expect("write");
    }
    assert!(
        report == expected,
        "differs from tests/data/hand_made.txt; what came is in the directory for tests"
    );
}

/// A layer with these entries, applied to an empty directory.
fn apply_bytes(layer: &[u8]) -> Result<Vec<String>, String> {
    let tree = Tree::new();
    let root = tree.dir("root");
    let options = ApplyOptions::new(Whiteouts::Remove);
    apply_layer(&root.path(), &mut &*layer, &options).map_err(|error| error.to_string())?;
    Ok(listing(&Stack::new(vec![root.path()]).expect("stack")))
}

/// Outside of all temporary directories of this test, with an owner's mode that a layer would change.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("file"), "outside").expect("write");
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o701))
            .expect("chmod");
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("UTF-8")
    }

    fn check(&self) {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(self.0.path()).expect("stat"));
        assert_eq!(mode & 0o7777, 0o701, "the mode of a directory outside changed");
        let names: Vec<_> = std::fs::read_dir(self.0.path()).expect("readdir").collect();
        assert_eq!(names.len(), 1, "something outside was made or removed");
        assert_eq!(std::fs::read(self.0.path().join("file")).expect("read"), b"outside");
    }
}

fn header(kind: u8, name: &str, link: &str) -> Header {
    Header {
        kind,
        name: name.into(),
        link: link.into(),
        mode: 0o777,
        mtime: Some(Time::from_seconds(1_000_000_000)),
        ..Header::default()
    }
}

fn layer(headers: &[Header]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for header in headers {
        writer.entry(header).expect("encodes");
    }
    writer.finish().expect("ends")
}

#[test]
fn a2_11_no_mode_changes_through_a_link() {
    let outside = Outside::new();
    let layer = layer(&[
        header(kind::SYMLINK, "x", outside.path()),
        header(kind::DIRECTORY, "x", ""),
        header(kind::SYMLINK, "y", outside.path()),
        header(kind::LINK, "z", "y"),
        header(kind::DIRECTORY, "z", ""),
    ]);
    let tree = apply_bytes(&layer).expect("applies");
    assert_eq!(tree, ["x d777 0:0", &format!("y l777 0:0 [{}]", outside.path()), "z d777 0:0"]);
    outside.check();
}

#[test]
fn a3_01_links_are_not_written_through() {
    let outside = Outside::new();
    let inside = |path: &str| format!("{}{path}", outside.path());
    for target in
        [outside.path().to_owned(), inside("/file"), format!("../../../../../..{}", inside("/file"))]
    {
        let mut file = header(kind::REGULAR, "x", "");
        file.mode = 0o4777;
        let cases = [
            vec![header(kind::SYMLINK, "x", &target), file.clone()],
            vec![header(kind::SYMLINK, "d", &target), header(kind::DIRECTORY, "d/e", "")],
            vec![header(kind::SYMLINK, "d", &target), header(kind::REGULAR, "d/file", "")],
            vec![header(kind::SYMLINK, "d", &target), header(kind::REGULAR, "d/.wh.file", "")],
            vec![header(kind::SYMLINK, "d", &target), header(kind::REGULAR, "d/.wh..wh..opq", "")],
            vec![header(kind::LINK, "x", &target), file.clone()],
            vec![header(kind::SYMLINK, "s", &target), header(kind::LINK, "x", "s"), file],
            vec![header(kind::SYMLINK, "s", &target), header(kind::LINK, "x", "s/file")],
            vec![header(kind::SYMLINK, ".wh.s", &target), header(kind::FIFO, &target, "")],
        ];
        for case in cases {
            // Some are errors; what matters is that nothing happens outside.
            let _ = apply_bytes(&layer(&case));
            outside.check();
        }
    }
}

#[test]
fn a2_12_others_cannot_lead_it_out() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let outside = Outside::new();
    let mut headers = Vec::new();
    for number in 0..100 {
        headers.push(header(kind::DIRECTORY, "d", ""));
        headers.push(header(kind::REGULAR, &format!("d/{}/file{number}", number % 7), ""));
        headers.push(header(kind::REGULAR, &format!("d/.wh.{}", number % 5), ""));
    }
    let layer = layer(&headers);
    let tree = Tree::new();
    let root = tree.dir("root").path();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mutator = scope.spawn(|| {
            // As a step would that runs in the tree meanwhile.
            while !done.load(Ordering::Relaxed) {
                let (dir, aside) = (root.join("d"), root.join("aside"));
                let _ = std::fs::rename(&dir, &aside);
                let _ = std::os::unix::fs::symlink(outside.path(), &dir);
                std::thread::yield_now();
                let _ = std::fs::remove_file(&dir);
                let _ = std::fs::remove_dir_all(&aside);
            }
        });
        let appliers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..16 {
                        let options = ApplyOptions::new(Whiteouts::Remove);
                        // It may well fail.
                        let _ = apply_layer(&root, &mut layer.as_slice(), &options);
                    }
                })
            })
            .collect();
        for applier in appliers {
            applier.join().expect("no panic");
        }
        done.store(true, Ordering::Relaxed);
        mutator.join().expect("no panic");
    });
    outside.check();
}
