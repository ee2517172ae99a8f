//! Archives that are not valid, or that readers could disagree on.

use std::io::{self, Read};

use buildkit_util_archive::{Chunk, Error, Header, Malformed, Reader, Time, Writer, kind};
use proptest::prelude::*;

const BLOCK: usize = 512;

/// A header's block in the dialect of POSIX.
fn block(kind: u8, name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    content
}

fn pax(records: &[u8]) -> Vec<u8> {
    [block(b'x', "x", records.len() as u64).to_vec(), padded(records)].concat()
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// Entries with their contents.
fn read(archive: &mut dyn Read) -> Result<Vec<(Header, Vec<u8>)>, Error> {
    let mut reader = Reader::new(archive);
    let mut entries = Vec::new();
    while let Some(header) = reader.entry()? {
        let mut content = Vec::new();
        while let Some(chunk) = reader.chunk()? {
            match chunk {
                Chunk::Data(bytes) => content.extend_from_slice(bytes),
                Chunk::Hole(count) => {
                    content.resize(content.len() + usize::try_from(count).expect("small"), 0)
                }
            }
        }
        entries.push((header, content));
    }
    Ok(entries)
}

fn refused(archive: &[u8]) -> Malformed {
    match read(&mut &*archive) {
        Err(Error::Malformed { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a3_02_sizes_in_records_win() {
    let file = block(kind::REGULAR, "a", 3);
    let archive = [pax(record("size", "1024").as_bytes()), file.to_vec(), vec![b'x'; 1024]].concat();
    let hidden = [archive.clone(), block(kind::REGULAR, "b", 0).to_vec()].concat();
    let entries = read(&mut hidden.as_slice()).expect("valid");
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].0.size, entries[0].1.len()), (1024, 1024));
    // A header in what one reader takes for content is not an entry.
    let smuggled = [
        pax(record("size", "512").as_bytes()),
        block(kind::REGULAR, "a", 0).to_vec(),
        block(kind::REGULAR, "smuggled", 0).to_vec(),
    ]
    .concat();
    let entries = read(&mut smuggled.as_slice()).expect("valid");
    assert_eq!(entries.len(), 1);
}

#[test]
fn a3_02_what_readers_disagree_on_is_refused() {
    let file = block(kind::REGULAR, "a", 0).to_vec();
    let name = pax(record("path", "b").as_bytes());
    assert_eq!(refused(&[name.clone(), name.clone(), file.clone()].concat()), Malformed::Pax);
    let global = block(kind::PAX_GLOBAL, "g", 0).to_vec();
    assert_eq!(refused(&[name.clone(), global, file.clone()].concat()), Malformed::Pax);
    for records in
        ["9 path=b\n", "10 path=b\n", "9 path=b", "x path=b\n", "8 path=b\n", "9path=b\n\n", "9 pathb=\0"]
    {
        let archive = [pax(records.as_bytes()), file.clone()].concat();
        let valid = matches!(records, "9 path=b\n" | "10 path=b\n");
        assert_eq!(read(&mut archive.as_slice()).is_ok(), valid, "{records:?}");
    }
    for (key, value) in
        [("size", "-1"), ("size", "x"), ("size", "9223372036854775808"), ("mtime", "1.x"), ("uid", " 1")]
    {
        refused(&[pax(record(key, value).as_bytes()), file.clone()].concat());
    }
    // A block of zeros, then something.
    assert_eq!(refused(&[vec![0; BLOCK], file.clone()].concat()), Malformed::Header);
    let mut wrong_sum = file.clone();
    wrong_sum[0] = b'b';
    assert_eq!(refused(&wrong_sum), Malformed::Header);
    // What is valid: no end at all, or one block of it.
    for end in [0, BLOCK, 2 * BLOCK, 20 * BLOCK] {
        let archive = [file.clone(), vec![0; end]].concat();
        assert_eq!(read(&mut archive.as_slice()).expect("valid").len(), 1);
    }
}

/// Each of these GNU tar reads in another way than Go: with other entries, or other names.
#[test]
fn a3_02_what_gnu_tar_reads_otherwise_is_refused() {
    let file = block(kind::REGULAR, "a", 0).to_vec();
    let size = || pax(record("size", "512").as_bytes());
    for special in [kind::SYMLINK, kind::CHAR_DEVICE, kind::BLOCK_DEVICE, kind::DIRECTORY, kind::FIFO] {
        let claims = block(special, "s", 512).to_vec();
        assert_eq!(refused(&[claims, file.clone()].concat()), Malformed::Content);
        let recorded = [size(), block(special, "s", 0).to_vec(), file.clone()].concat();
        assert_eq!(refused(&recorded), Malformed::Content);
    }
    // A hard link is taken for one without content by both, unless a record says so.
    let link = |size| block(kind::LINK, "l", size).to_vec();
    let entries = read(&mut [link(512), file.clone()].concat().as_slice()).expect("valid");
    assert_eq!(entries.len(), 2);
    assert_eq!(refused(&[size(), link(0), file.clone()].concat()), Malformed::Content);
    for (key, value) in [("path", "b"), ("linkpath", "b"), ("size", "512"), ("GNU.sparse.name", "b")] {
        let records = record(key, value);
        let global =
            [block(kind::PAX_GLOBAL, "g", records.len() as u64).to_vec(), padded(records.as_bytes())];
        assert_eq!(refused(&[global.concat(), file.clone()].concat()), Malformed::Pax, "{key}");
    }
    for records in [
        record("GNU.sparse.realsize", "10"),
        record("GNU.sparse.name", "b"),
        record("GNU.sparse.major", "2") + &record("GNU.sparse.minor", "0"),
    ] {
        assert_eq!(
            refused(&[pax(records.as_bytes()), file.clone()].concat()),
            Malformed::Sparse,
            "{records}"
        );
    }
    let long = |kind, name: &str, size| [block(kind, "l", size).to_vec(), padded(name.as_bytes())].concat();
    for (kind, key) in [(b'L', "path"), (b'K', "linkpath")] {
        let named_twice = [long(kind, "long\0", 5), pax(record(key, "b").as_bytes()), file.clone()].concat();
        assert_eq!(refused(&named_twice), Malformed::Pax);
        assert_eq!(refused(&[block(kind, "l", 0).to_vec(), file.clone()].concat()), Malformed::Header);
        assert_eq!(refused(&[long(kind, "longer", 4), file.clone()].concat()), Malformed::Header);
        assert_eq!(
            read(&mut [long(kind, "long", 4), file.clone()].concat().as_slice()).expect("valid").len(),
            1
        );
    }
}

#[test]
fn a2_18_claims_are_not_believed() {
    // A size of 2^63 - 1, in octal records and in binary.
    let huge = [pax(record("size", "9223372036854775807").as_bytes()), block(kind::REGULAR, "a", 0).to_vec()];
    assert_eq!(refused(&huge.concat()), Malformed::Truncated);
    let mut binary = block(kind::REGULAR, "a", 0);
    binary[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    seal(&mut binary);
    assert_eq!(refused(&binary), Malformed::Truncated);
    binary[124] = 0xff;
    seal(&mut binary);
    assert_eq!(refused(&binary), Malformed::Number);
    // Records of 1 GiB and long names of 1 GiB, which are not there.
    for kind in [b'x', b'g', b'L', b'K'] {
        assert_eq!(refused(&block(kind, "x", 1 << 30)), Malformed::TooLong);
    }
    // A name of 100 kB.
    let name = "n".repeat(100_000);
    let file = block(kind::REGULAR, "a", 0).to_vec();
    assert_eq!(refused(&[pax(record("path", &name).as_bytes()), file.clone()].concat()), Malformed::TooLong);
    let long = [block(b'L', "l", 100_001).to_vec(), padded(name.as_bytes()), file].concat();
    assert_eq!(refused(&long), Malformed::TooLong);
}

#[test]
fn a2_18_maps_of_sparse_files_are_bounded() {
    let file = |size| block(kind::REGULAR, "s", size).to_vec();
    let version = record("GNU.sparse.major", "1") + &record("GNU.sparse.minor", "0");
    let sparse = |size: &str| version.clone() + &record("GNU.sparse.realsize", size);
    // Ten million parts before the content: claimed, and there.
    let claimed = [pax(sparse("10").as_bytes()), file(512), padded(b"10000000\n")].concat();
    assert_eq!(refused(&claimed), Malformed::TooLong);
    let lines = "00\n".repeat(400_000);
    let there = format!("200000\n{lines}");
    let archive = [pax(sparse("10").as_bytes()), file(there.len() as u64), padded(there.as_bytes())].concat();
    assert_eq!(refused(&archive), Malformed::TooLong);
    // In records.
    let many = record("GNU.sparse.map", &"0,".repeat(600_000));
    assert_eq!(refused(&[pax(many.as_bytes()), file(0)].concat()), Malformed::TooLong);
    // In blocks behind a header, without an end.
    let mut old = block(kind::GNU_SPARSE, "s", 0);
    old[257..265].copy_from_slice(b"ustar  \0");
    old[482] = 1;
    seal(&mut old);
    let mut extension = [0; BLOCK];
    extension[504] = 1;
    let endless = io::Cursor::new(old).chain(Repeat(extension, 0));
    match read(&mut { endless }) {
        Err(Error::Malformed { reason, .. }) => assert_eq!(reason, Malformed::TooLong),
        other => panic!("not refused: {other:?}"),
    }
    // A file of zeros that is much larger than the archive.
    let bomb = [pax(sparse("1000000000000").as_bytes()), file(512), padded(b"0\n")].concat();
    assert_eq!(refused(&bomb), Malformed::TooSparse);
    // Parts that overlap, are out of order or outside.
    for map in [
        "2\n0\n4\n2\n4\n",
        "2\n4\n4\n0\n4\n",
        "1\n8\n4\n",
        "1\n-1\n4\n",
        "1\n9223372036854775807\n9\n",
        "x\n",
    ] {
        let content = [padded(map.as_bytes()), vec![b'd'; 8]].concat();
        let archive = [pax(sparse("10").as_bytes()), file(content.len() as u64), padded(&content)].concat();
        assert_eq!(refused(&archive), Malformed::Sparse, "{map:?}");
    }
    // One that is right.
    let content = [padded(b"2\n1\n2\n6\n2\n"), b"abcd".to_vec()].concat();
    let archive = [pax(sparse("10").as_bytes()), file(content.len() as u64), padded(&content)].concat();
    let entries = read(&mut archive.as_slice()).expect("valid");
    assert_eq!(entries[0].1, b"\0ab\0\0\0cd\0\0");
}

/// The same block again and again.
struct Repeat([u8; BLOCK], usize);

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = self.0[self.1];
            self.1 = (self.1 + 1) % BLOCK;
        }
        Ok(buffer.len())
    }
}

#[test]
fn a_broken_source_is_told_from_a_broken_archive() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let mut source = io::Cursor::new(block(kind::REGULAR, "a", 600)).chain(Broken);
    assert!(matches!(read(&mut source), Err(Error::Read(_))));
    let truncated = [block(kind::REGULAR, "a", 600).to_vec(), vec![b'x'; 599]].concat();
    assert_eq!(refused(&truncated), Malformed::Truncated);
    // In the padding, it is only careless.
    let careless = [block(kind::REGULAR, "a", 600).to_vec(), vec![b'x'; 700]].concat();
    assert_eq!(read(&mut careless.as_slice()).expect("valid").len(), 1);
}

fn arbitrary_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        "[a-z]{1,20}(/[a-z]{1,20}){0,3}".prop_map(String::into_bytes),
        "[a-zé/]{1,300}x".prop_map(String::into_bytes),
        prop::collection::vec(1u8.., 1..200).prop_map(|mut name| {
            name.push(b'x');
            name
        }),
    ];
    let number = prop_oneof![0i64..0o7_777_777, 0..=i64::from(u32::MAX)];
    let time = (-5_000_000_000i64..20_000_000_000).prop_map(|seconds| Some(Time::from_seconds(seconds)));
    (name.clone(), name, number.clone(), number, time, 0usize..5).prop_map(
        |(name, link, uid, gid, mtime, choice)| {
            let kinds = [kind::REGULAR, kind::LINK, kind::SYMLINK, kind::DIRECTORY, kind::FIFO];
            Header {
                kind: kinds[choice],
                link: if matches!(choice, 1 | 2) { link } else { Vec::new() },
                name,
                mode: 0o644,
                uid,
                gid,
                mtime,
                format: buildkit_util_archive::Format::PAX,
                ..Header::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(headers in prop::collection::vec(arbitrary_header(), 0..6)) {
        let mut writer = Writer::new(Vec::new());
        for header in &headers {
            writer.entry(header).expect("encodes");
        }
        let archive = writer.finish().expect("ends");
        let entries = read(&mut archive.as_slice()).expect("valid");
        prop_assert_eq!(entries.len(), headers.len());
        for ((read, _), written) in entries.iter().zip(&headers) {
            prop_assert_eq!((&read.name, &read.link, read.kind), (&written.name, &written.link, written.kind));
            prop_assert_eq!((read.uid, read.gid, read.mtime), (written.uid, written.gid, written.mtime));
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&mut bytes.as_slice());
    }

    #[test]
    fn any_change_is_read(at in 0usize..4096, byte: u8) {
        let mut archive = [pax((record("path", "b") + &record("mtime", "1.5")).as_bytes()), block(kind::REGULAR, "a", 600).to_vec(), padded(&[b'x'; 600])].concat();
        let at = at % archive.len();
        archive[at] = byte;
        let _ = read(&mut archive.as_slice());
    }
}
