//! Hand-made layers, most of them hostile.
//!
//! `tests/data/hand_made.txt` has what they come to: the trees that the original's differ makes of them, compared
//! when they were recorded, but for these. Refused here, while the original passes over them or cuts numbers: entries
//! for the root that are no directories, owners and devices out of bounds, paths in records for all that follows. As a layer of an overlay, the original
//! cannot link to files of layers below, links to whiteouts, refuses a whiteout of what the layer itself has, and lets
//! files of layers below show in a directory that took the place of something else; here a layer comes to the same
//! tree either way. Of an opaque directory, what the layer put further down stays, wherever the marker is.

use std::sync::OnceLock;

use buildkit_util_archive::{Format, Header, Time, Writer, kind};

use super::Layer;

/// Where links of layers lead that want out, without what makes it this process's own.
pub const CANARY: &str = "/tmp/buildkit-archive-canary";

/// Where links of layers lead that want out. The test makes it.
pub fn canary() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| format!("{CANARY}-{}", std::process::id()))
}

/// Time of all that is not about times.
pub const TIME: i64 = 1_000_000_000;

/// What the modes of applying come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// The same tree, or the same refusal.
    Yes,
    /// Not the same, as in the original.
    No,
}

/// A layer that is applied on top of [`base`].
pub struct Case {
    pub name: &'static str,
    pub entries: Vec<Entry>,
    pub same: Same,
}

/// An entry of a layer.
#[derive(Clone)]
pub struct Entry {
    pub header: Header,
    pub content: Vec<u8>,
}

impl Entry {
    fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let header = Header {
            kind,
            name: name.as_ref().to_vec(),
            mode: if kind == kind::DIRECTORY { 0o755 } else { 0o644 },
            mtime: Some(Time::from_seconds(TIME)),
            format: Format::PAX,
            ..Header::default()
        };
        Self { header, content: Vec::new() }
    }

    fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    fn mode(self, mode: i64) -> Self {
        self.with(|header| header.mode = mode)
    }

    fn owner(self, uid: i64, gid: i64) -> Self {
        self.with(|header| (header.uid, header.gid) = (uid, gid))
    }

    fn time(self, seconds: i64, nanoseconds: u32) -> Self {
        self.with(|header| header.mtime = Some(Time { seconds, nanoseconds }))
    }

    fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.with(|header| {
            header.records.insert(format!("SCHILY.xattr.{name}").into_bytes(), value.to_vec());
        })
    }

    fn format(self, format: Format) -> Self {
        self.with(|header| header.format = format)
    }
}

fn file(name: impl AsRef<[u8]>, content: &str) -> Entry {
    let mut entry = Entry::new(kind::REGULAR, name);
    entry.header.size = content.len() as i64;
    entry.content = content.as_bytes().to_vec();
    entry
}

fn dir(name: impl AsRef<[u8]>) -> Entry {
    Entry::new(kind::DIRECTORY, name)
}

fn link(name: &str, target: &str) -> Entry {
    Entry::new(kind::SYMLINK, name).mode(0o777).with(|header| header.link = target.into())
}

fn hard(name: &str, target: &str) -> Entry {
    Entry::new(kind::LINK, name).with(|header| header.link = target.into())
}

fn device(kind: u8, name: &str, major: i64, minor: i64) -> Entry {
    Entry::new(kind, name).with(|header| (header.devmajor, header.devminor) = (major, minor))
}

/// What is below each layer.
pub fn base(layer: &Layer) {
    layer.file("file", "base").file("dir/old", "old").file("dir/sub/deep", "deep");
    layer.symlink("link", "dir").symlink("up", "../../..").symlink("out", canary());
    layer.symlink("dangling", "nowhere/x");
}

/// The archive of a layer.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for Entry { header, content } in entries {
        writer.entry(header).expect("encodes");
        writer.content(content).expect("fits");
    }
    writer.finish().expect("ends")
}

/// All layers.
pub fn cases() -> Vec<Case> {
    let opaque = || file("dir/.wh..wh..opq", "");
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut cases = Vec::new();
    let mut add = |name, same, entries: Vec<Entry>| cases.push(Case { name, entries, same });
    use Same::{No, Yes};

    add("file", Yes, vec![file("new", "x")]);
    add("missing parents", Yes, vec![file("p/q/r", "x")]);
    add("absolute name", Yes, vec![file("/abs", "x"), dir("/d"), file("/d/f", "x")]);
    add("name that leads upwards", Yes, vec![file("../../../../../../tmp/escaped", "x")]);
    add("name with .. inside", Yes, vec![file("dir/../moved", "x"), file("none/../there", "x")]);
    add("name with dots and slashes", Yes, vec![file("./dot", "x"), file("dir//sub///./x", "x")]);
    add("root as directory", Yes, vec![dir("./").mode(0o700), dir("/"), dir("."), dir(".."), file("a", "x")]);
    add("root as link", Yes, vec![link(".", canary())]);
    add("root as absolute link", Yes, vec![link("/", canary())]);
    add("root as file", Yes, vec![file("..", "x")]);
    add("empty name", Yes, vec![file("", "x")]);
    add("link, then file in its place", Yes, vec![link("s", canary()), file("s", "x")]);
    add("link, then file below it", Yes, vec![link("s", canary()), file("s/f", "x")]);
    add("link, then directory in its place", Yes, vec![link("x", canary()), dir("x").mode(0o777)]);
    add("link to file, then file", Yes, vec![link("x", &format!("{}/file", canary())), file("x", "x")]);
    add("link upwards, then file below it", Yes, vec![link("s", "../../../../etc"), file("s/passwd", "x")]);
    add(
        "link to a link, then file below it",
        Yes,
        vec![link("a", "b"), link("b", canary()), file("a/f", "x")],
    );
    add("file below a link of the base", No, vec![file("link/new", "x")]);
    add("file below a link of the base that leads out", No, vec![file("out/new", "x")]);
    add("file below a link of the base that leads upwards", No, vec![file("up/new", "x")]);
    add("file below a dangling link", No, vec![file("dangling/new", "x")]);
    add("links in a circle", Yes, vec![link("a", "b"), link("b", "a"), file("a/x", "x")]);
    add("link without a target", Yes, vec![link("a", "")]);
    add("hard link", Yes, vec![file("a", "x"), hard("b", "a"), hard("dir/c", "b")]);
    add("hard link, absolute", Yes, vec![file("a", "x"), hard("/b", "/a")]);
    add("hard link upwards", Yes, vec![file("a", "x"), hard("b", "../../a")]);
    add("hard link outside", Yes, vec![hard("b", &format!("../../../../../..{}/file", canary()))]);
    add("hard link through a link that leads out", Yes, vec![link("s", canary()), hard("b", "s/file")]);
    add("hard link to a file of the base", Yes, vec![hard("b", "file"), hard("c", "dir/sub/deep")]);
    add("hard link to a link", Yes, vec![link("s", canary()), hard("t", "s")]);
    add("hard link to a link of the base", Yes, vec![hard("t", "out")]);
    add("hard link to a directory", Yes, vec![hard("b", "dir")]);
    add("hard link to the root", Yes, vec![hard("b", "/")]);
    add("hard link to what is gone", Yes, vec![file(".wh.file", ""), hard("b", "file")]);
    add("hard link to a whiteout", Yes, vec![file(".wh.file", ""), hard("b", ".wh.file")]);
    add("hard link below what is gone", Yes, vec![file(".wh.dir", ""), hard("b", "dir/old")]);
    add("hard link in an opaque directory", No, vec![opaque(), hard("b", "dir/old")]);
    add("hard link to itself", Yes, vec![file("a", "x"), hard("a", "a")]);
    add("hard link through a link", No, vec![link("s", "dir"), hard("b", "s/old")]);
    add("hard link in place of a file", Yes, vec![file("a", "x"), hard("file", "a")]);
    add("hard link in place of a directory", Yes, vec![file("a", "x"), hard("dir", "a")]);
    add("hard link with another mode", Yes, vec![file("a", "x"), hard("b", "a").mode(0o4755).owner(5, 6)]);
    add("whiteout of a file", Yes, vec![file(".wh.file", "")]);
    add("whiteout of a directory", Yes, vec![file(".wh.dir", "")]);
    add("whiteout of a link", Yes, vec![file(".wh.out", "")]);
    add("whiteout of nothing there", Yes, vec![file(".wh.none", "")]);
    add("whiteout further down", Yes, vec![file("dir/.wh.old", ""), file("dir/sub/.wh.deep", "")]);
    add("whiteout without a name", Yes, vec![file(".wh.", "")]);
    add("whiteout of .", Yes, vec![file("dir/.wh..", "")]);
    add("whiteout of ..", Yes, vec![file("dir/.wh...", "")]);
    add("name that looks like one of ..", Yes, vec![file(".wh.../x", "x")]);
    add("whiteout of a whiteout", Yes, vec![file(".wh..wh.file", "")]);
    add("whiteout that is a directory", Yes, vec![dir(".wh.file")]);
    add("whiteout with content", Yes, vec![file(".wh.file", "content")]);
    add("whiteout below a link that leads out", No, vec![file("out/.wh.file", "")]);
    add("opaque directory", Yes, vec![dir("dir"), opaque(), file("dir/new", "x")]);
    let after = vec![file("dir/new", "x"), file("dir/sub/new", "x"), file("dir/old", "newer"), opaque()];
    add("opaque at last", Yes, after);
    add("opaque marker that is a directory", Yes, vec![dir("dir/.wh..wh..opq"), file("dir/new", "x")]);
    add("opaque directory that is new", Yes, vec![file("none/.wh..wh..opq", ""), file("none/f", "x")]);
    add("opaque root", Yes, vec![file("new", "x"), file(".wh..wh..opq", "")]);
    add("opaque below a link that leads out", No, vec![file("out/.wh..wh..opq", "")]);
    add("whiteout, then file", Yes, vec![file(".wh.file", ""), file("file", "new")]);
    add("whiteout, then directory", Yes, vec![file(".wh.dir", ""), dir("dir"), file("dir/new", "x")]);
    add("whiteout, then file below", No, vec![file(".wh.dir", ""), file("dir/new", "x")]);
    add("file, then whiteout", Yes, vec![file("file", "new"), file(".wh.file", "")]);
    add("directory for a file", Yes, vec![dir("file"), file("file/x", "x")]);
    add("file for a directory", Yes, vec![file("dir", "x")]);
    add("link for a directory", Yes, vec![link("dir", canary())]);
    add("directory for a link", Yes, vec![dir("link"), dir("out").mode(0o777), file("out/f", "x")]);
    add("file below a file", No, vec![file("file/x", "x")]);
    add("entry twice", Yes, vec![file("a", "first"), file("a", "2")]);
    add("directory twice", Yes, vec![dir("d").mode(0o700), file("d/f", "x"), dir("d").mode(0o750)]);
    add(
        "directory, file, directory",
        Yes,
        vec![dir("dir"), file("dir", "x"), dir("dir"), file("dir/y", "y")],
    );
    add("names that differ in case", Yes, vec![file("A", "1"), file("a", "2")]);
    let devices = vec![device(kind::CHAR_DEVICE, "null", 1, 3), device(kind::BLOCK_DEVICE, "b", 7, 200)];
    add("devices", Yes, devices);
    add("device of overlayfs", No, vec![device(kind::CHAR_DEVICE, "file", 0, 0)]);
    add("device out of bounds", Yes, vec![device(kind::CHAR_DEVICE, "n", -1, 3).format(Format::GNU)]);
    add("pipe", Yes, vec![Entry::new(kind::FIFO, "p").mode(0o600)]);
    add(
        "bits of modes",
        Yes,
        vec![
            file("suid", "x").mode(0o4755).owner(1000, 1000),
            file("sgid", "x").mode(0o2755).owner(0, 5),
            dir("sticky").mode(0o1777),
            file("none", "x").mode(0),
            file("more", "x").mode(0o100_644),
        ],
    );
    add("attributes", Yes, vec![file("f", "x").xattr("user.a", b"1").xattr("user.empty", b"")]);
    add(
        "attributes of overlayfs",
        Yes,
        vec![
            dir("dir").xattr("trusted.overlay.opaque", b"y").xattr("trusted.overlay.redirect", b"/sub"),
            file("file", "x").xattr("trusted.overlay.metacopy", b""),
        ],
    );
    add("attributes of overlayfs for users", Yes, vec![dir("dir").xattr("user.overlay.opaque", b"y")]);
    add("privileged attributes", Yes, vec![file("f", "x").xattr("trusted.other", b"1")]);
    add("attributes of a link", Yes, vec![link("l", "x").xattr("user.a", b"1")]);
    add("capabilities", Yes, vec![file("f", "x").owner(7, 7).xattr("security.capability", &capability)]);
    add("longest name", Yes, vec![file("n".repeat(255), "x")]);
    add("name that is too long", Yes, vec![file("n".repeat(256), "x")]);
    add("path that is too long", Yes, vec![file("a/".repeat(2100) + "f", "x")]);
    add("path of 100 kB", Yes, vec![file("a".repeat(100_000), "x")]);
    add("name that is not UTF-8", Yes, vec![file(b"a\xff\xfe", "x"), dir(b"\xc3/")]);
    add(
        "times",
        Yes,
        vec![
            file("before", "x").time(-5, 0),
            file("fraction", "x").time(1_500_000_000, 123_456_789),
            file("future", "x").time(4_102_444_800, 0),
            file("far", "x").time(99_999_999_999, 0),
        ],
    );
    add("numbers in binary", Yes, vec![file("f", "x").owner(3_000_000, 4_000_000_000).format(Format::GNU)]);
    add("owner out of bounds", Yes, vec![file("f", "x").owner(1 << 32, 0)]);
    add("owner below zero", Yes, vec![file("f", "x").owner(-1, 0).format(Format::GNU)]);
    add("type of entry that nobody knows", Yes, vec![Entry::new(b'7', "f")]);
    let mut global = Header { kind: kind::PAX_GLOBAL, name: b"file".to_vec(), ..Header::default() };
    global.records.insert(b"path".to_vec(), b"other".to_vec());
    add("global records", Yes, vec![Entry { header: global, content: Vec::new() }, file("f", "x")]);
    cases
}
