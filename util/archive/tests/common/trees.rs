//! Trees of which it is known what layers the original's differ makes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::FileType;

use super::{Layer, Tree};

/// A tree: what is below, bottom layer last, and what is on top.
pub struct Shape {
    pub name: &'static str,
    pub below: usize,
    pub build: fn(&[Layer], &Layer),
    /// Digest of the layer.
    pub digest: &'static str,
}

/// Makes a tree in directories `0` (the bottom) to `below`, which is on top.
pub fn build(shape: &Shape, tree: &Tree) -> (Vec<Layer>, Layer) {
    let below: Vec<_> = (0..shape.below).map(|number| tree.dir(&number.to_string())).collect();
    let top = tree.dir(&shape.below.to_string());
    (shape.build)(&below, &top);
    (below, top)
}

fn base(layer: &Layer) {
    layer.file("etc/passwd", "root").file("etc/group", "wheel").file("usr/bin/tool", "tool").mkdir("usr/lib");
    layer
        .symlink("bin", "usr/bin")
        .hard_link("etc/passwd", "etc/shadow")
        .file("gone/a", "a")
        .file("gone/b", "b");
}

/// All trees.
pub fn shapes() -> Vec<Shape> {
    vec![
        Shape {
            name: "files of all types",
            below: 0,
            build: |_, top| {
                top.file("a", "content").file("empty", "").mkdir("dir").symlink("dir/link", "../a");
                top.node("pipe", FileType::Fifo, 0, 0).node("null", FileType::CharacterDevice, 1, 3);
                top.node("loop", FileType::BlockDevice, 7, 300).node("socket", FileType::Socket, 0, 0);
                top.hard_link("a", "b")
                    .hard_link("a", "dir/c")
                    .hard_link("dir/link", "l")
                    .whiteout("whiteout");
            },
            digest: "sha256:0106699af1cc1e1f2b86d32d6a4894547a3d33dae8bbcefb0fe50568cd146ff2",
        },
        Shape {
            name: "names",
            below: 0,
            build: |_, top| {
                top.file("n".repeat(99), "").file("m".repeat(100), "").file("o".repeat(101), "");
                top.mkdir("d".repeat(99)).mkdir("e".repeat(100)).symlink("long", &"t".repeat(101));
                top.file("p".repeat(90) + "/" + &"q".repeat(99), "").file(["a"; 130].join("/") + "/f", "");
                top.file("grün", "").symlink("ü", "ö");
                let bytes: &[u8] = b"not\xffutf8";
                top.file(OsStr::from_bytes(bytes), "");
            },
            digest: "sha256:6df80a02c15502496e7cd53989f54999eb2e122215f2a6c39c8920bffe0e72e5",
        },
        Shape {
            name: "metadata",
            below: 0,
            build: |_, top| {
                top.file("suid", "").chown("suid", 1000, 1000).chmod("suid", 0o4755);
                top.mkdir("sticky").chmod("sticky", 0o1777).file("uid", "").chown(
                    "uid",
                    2_097_152,
                    4_000_000_000,
                );
                top.file("old", "").time("old", -1).file("new", "").time("new", 8_589_934_592);
                let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                top.file("ping", "x").xattr("ping", "security.capability", &capability);
                top.file("attributes", "x").xattr("attributes", "user.a", b"1");
            },
            digest: "sha256:5d2326f5a1e88c100ad7cff3ae14ede814c3481a3974691d056fed5827b214fb",
        },
        Shape {
            name: "changes",
            below: 1,
            build: |below, top| {
                base(&below[0]);
                top.file("etc/passwd", "root")
                    .file("etc/new", "new")
                    .whiteout("usr/bin/tool")
                    .whiteout("none");
                top.mkdir("usr/lib").whiteout("bin").file("usr/share/doc/x", "x").chmod("usr/share", 0o700);
            },
            digest: "sha256:db0be343ae1417c9e13309ba6ef61f8ffa98edddd154d9b1aa0fdcad1c7d7679",
        },
        Shape {
            name: "opaque directories",
            below: 2,
            build: |below, top| {
                base(&below[0]);
                below[1].file("gone/c", "c").file("etc/hosts", "hosts").file("usr/lib/l", "l");
                top.file("gone/b", "b").file("gone/d", "d").opaque("gone").file("etc/hosts/x", "x");
                top.mkdir("fresh").opaque("fresh").file("usr/lib/l", "l").hard_link("usr/lib/l", "usr/lib/m");
                top.opaque("usr/lib");
            },
            digest: "sha256:a2899f59229a8fa3f6f027337da5d176ff4df4c07ca78406c3682b3450dff261",
        },
        Shape {
            name: "sizes",
            below: 0,
            build: |_, top| {
                for size in [1, 511, 512, 513, 262_143, 262_144, 262_145, 700_000] {
                    top.file(format!("f{size}"), vec![b'x'; size]);
                }
            },
            digest: "sha256:1c34b2bcccbe9908883513338700ff1649b23ea766370828e300fc532e09d6ec",
        },
    ]
}
