//! What hostile archives make their reader allocate. Counted by the allocator, so no other process and no page of
//! the system matters.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use buildkit_util_archive::{ApplyOptions, Error, Malformed, Whiteouts, apply_layer, kind};

const BLOCK: usize = 512;

/// The most that an archive may cost, in bytes.
const BOUND: usize = 64 << 20;

/// Knows the bytes that are in use, and the most that ever were.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(used, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are made when they are read, so that the archive itself takes no memory.
type Stream = Box<dyn Read>;

fn bytes(bytes: impl AsRef<[u8]> + 'static) -> Stream {
    Box::new(io::Cursor::new(bytes))
}

fn repeated(byte: u8, count: u64) -> Stream {
    Box::new(io::repeat(byte).take(count))
}

/// The same bytes `count` times.
struct Again {
    bytes: Vec<u8>,
    at: usize,
    left: u64,
}

fn again(bytes: &[u8], count: u64) -> Stream {
    Box::new(Again { bytes: bytes.to_vec(), at: 0, left: count * bytes.len() as u64 })
}

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = buffer.len().min(left).min(self.bytes.len() - self.at);
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at = (self.at + count) % self.bytes.len();
        self.left -= count as u64;
        Ok(count)
    }
}

/// A header; sizes that octal digits cannot tell are written in binary.
fn header(kind: u8, name: &str, link: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(block)
}

fn seal(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// PAX records of one entry, with their padding.
fn pax(records: String) -> Vec<u8> {
    let mut block = header(b'x', "x", "", records.len() as u64);
    block.extend_from_slice(records.as_bytes());
    block.resize(block.len().next_multiple_of(BLOCK), 0);
    block
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// The reason of a refusal, and the most memory in use meanwhile beyond what was before, in bytes.
fn apply(parts: Vec<Stream>) -> (Result<(), Error>, usize) {
    let root = tempfile::tempdir().expect("a directory");
    let mut archive: Stream = Box::new(io::empty());
    for part in parts {
        archive = Box::new(archive.chain(part));
    }
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let applied = apply_layer(root.path(), &mut archive, &ApplyOptions::new(Whiteouts::Remove)).map(drop);
    (applied, PEAK.load(Ordering::Relaxed) - before)
}

/// All in one test: others of this process would be counted.
#[test]
fn a2_18_hostile_archives_take_little_memory() {
    const GIB: u64 = 1 << 30;
    const PARTS: u64 = 10_000_000;
    let file = |size| header(kind::REGULAR, "f", "", size);
    let sparse =
        |rest: String| pax(record("GNU.sparse.major", "1") + &record("GNU.sparse.minor", "0") + &rest);
    let long = "n".repeat(100_000);
    let mut old_sparse = header(kind::GNU_SPARSE, "s", "", 0);
    old_sparse[257..265].copy_from_slice(b"ustar  \0");
    old_sparse[482] = 1;
    let mut extension = [0; BLOCK];
    extension[504] = 1;
    let map = record("GNU.sparse.map", &"0,0,".repeat(200_000));
    let cases: Vec<(&str, Malformed, Vec<Stream>)> = vec![
        (
            "a PAX record of 1 GiB",
            Malformed::TooLong,
            vec![bytes(header(b'x', "x", "", GIB)), bytes(format!("{GIB} path=")), repeated(b'x', GIB)],
        ),
        (
            "PAX records of 1 GiB for all that follows",
            Malformed::TooLong,
            vec![bytes(header(b'g', "g", "", GIB)), again(b"13 comment=x\n", GIB / 13)],
        ),
        (
            "a long name of 1 GiB",
            Malformed::TooLong,
            vec![bytes(header(b'L', "l", "", GIB)), repeated(b'n', GIB)],
        ),
        (
            "a name of 100 kB in a record",
            Malformed::TooLong,
            vec![bytes(pax(record("path", &long))), bytes(file(0))],
        ),
        (
            "a name of 100 kB in GNU's way",
            Malformed::TooLong,
            vec![
                bytes(header(b'L', "l", "", long.len() as u64)),
                bytes(long.clone()),
                repeated(0, (BLOCK - long.len() % BLOCK) as u64),
                bytes(file(0)),
            ],
        ),
        (
            "a size of 2^63 - 1 in a header",
            Malformed::Truncated,
            vec![bytes(file(i64::MAX.unsigned_abs())), repeated(b'x', 1 << 20)],
        ),
        (
            "a size of 2^63 - 1 in a record",
            Malformed::Truncated,
            vec![bytes(pax(record("size", &i64::MAX.to_string()))), bytes(file(0)), repeated(b'x', 1 << 20)],
        ),
        (
            "a map of ten million parts in the content",
            Malformed::TooLong,
            vec![
                bytes(sparse(record("GNU.sparse.realsize", "10"))),
                bytes(file(9 + 4 * PARTS)),
                bytes(format!("{PARTS}\n")),
                again(b"0\n0\n", PARTS),
            ],
        ),
        (
            "a map of ten million parts in blocks behind the header",
            Malformed::TooLong,
            vec![bytes(seal(old_sparse)), again(&extension, PARTS / 21)],
        ),
        (
            "a map of as many parts as a record takes",
            Malformed::Sparse,
            vec![bytes(pax(record("GNU.sparse.size", "10") + &map)), bytes(file(0))],
        ),
    ];
    for (what, expected, parts) in cases {
        let (refused, used) = apply(parts);
        match refused {
            Err(Error::Malformed { reason, .. }) => assert_eq!(reason, expected, "{what}"),
            other => panic!("{what}: not refused: {other:?}"),
        }
        assert!(used < BOUND, "{what}: {used} bytes");
    }
    for name in ["/", ".", "./", "..", "a/.."] {
        let link = bytes(header(kind::SYMLINK, name, "/etc", 0));
        let (refused, used) = apply(vec![link, bytes(file(0))]);
        assert!(matches!(refused, Err(Error::Refused { .. })), "{name:?} as a link: {refused:?}");
        assert!(used < BOUND, "{name:?} as a link: {used} bytes");
    }
}
