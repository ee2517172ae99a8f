//! Layers of all kinds are converted, and broken ones are refused.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

use buildkit_util_archive::{Format, Header, Time, Writer, kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::{Compression, Config, Encoder, Limits, decoder, detect};
use buildkit_util_converter::{Conversion, Error, LayerWriter, convert, estargz_payload, rewrite_times};

const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e00017000c5d00341949ee8de9560ac121b000006c14ed1b3b68bb9100012818d783b76e1fb6f37d010000000004595a";
const BZIP2: &str =
    "425a68393141592653596f4f10f3000005d100001040000244a00030c002a834710dad870f1772453850906f4f10f3";

const KINDS: [Compression; 4] =
    [Compression::Uncompressed, Compression::Gzip, Compression::EStargz, Compression::Zstd];

fn conversion(kind: Compression) -> Conversion {
    Conversion { to: Config { kind, ..Config::default() }, ..Conversion::default() }
}

fn header(kind: u8, name: &str, size: usize) -> Header {
    Header {
        kind,
        name: name.into(),
        size: size as i64,
        mode: 0o644,
        mtime: Some(Time { seconds: 1_500_000_000, nanoseconds: 0 }),
        format: Format::PAX,
        ..Header::default()
    }
}

fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8 & 0x3f
    };
    (0..length).map(|_| next()).collect()
}

/// A layer with something of everything.
fn layer() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut file = |header: &Header, content: &[u8]| {
        writer.entry(header).expect("encodes");
        writer.content(content).expect("fits");
    };
    file(&header(kind::DIRECTORY, "dir/", 0), b"");
    for size in [0, 1, 512, 5000, (4 << 20) + 1] {
        file(&header(kind::REGULAR, &format!("dir/file{size}"), size), &bytes(size));
    }
    let link = Header { link: b"dir/file1".to_vec(), ..header(kind::LINK, "link", 0) };
    file(&link, b"");
    let mut attributes = header(kind::REGULAR, "<é>", 3);
    attributes.records.insert(b"SCHILY.xattr.user.a".to_vec(), b"\0\xff".to_vec());
    (attributes.uid, attributes.uname) = (7, b"seven".to_vec());
    file(&attributes, b"abc");
    file(&header(kind::SYMLINK, "empty", 0), b"");
    writer.finish().expect("ends")
}

fn converted(input: &[u8], conversion: &Conversion) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    convert(input, conversion, &mut out).map(|_| out)
}

fn plain(blob: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    decoder(detect(blob), blob).expect("a decoder").read_to_end(&mut out).expect("decompresses");
    out
}

#[test]
fn every_kind_becomes_every_other() {
    let layer = layer();
    for from in KINDS {
        let mut out = Vec::new();
        let (info, source) = convert(layer.as_slice(), &conversion(from), &mut out).expect("converts");
        let inside = plain(&out);
        assert_eq!(info.diff_id, Digest::sha256(&inside), "{from}");
        assert_eq!(info.size, inside.len() as u64, "{from}");
        assert_eq!(source, Digest::sha256(&layer), "{from}");
        assert!(inside.starts_with(&layer), "{from}");
        assert_eq!(inside.len() == layer.len(), from != Compression::EStargz);
        let end = estargz_payload(&mut Cursor::new(&out)).expect("reads");
        assert_eq!(end.is_some(), from == Compression::EStargz, "{from}");
        let payload = &out[..end.map_or(out.len(), |end| usize::try_from(end).expect("fits"))];
        for to in KINDS {
            let mut again = Vec::new();
            let (back, source) = convert(payload, &conversion(to), &mut again).expect("converts");
            assert_eq!(source, Digest::sha256(&layer), "{from} to {to}");
            assert!(plain(&again).starts_with(&layer), "{from} to {to}");
            let _ = back;
        }
    }
}

#[test]
fn estargz_has_files_where_its_table_says() {
    let layer = layer();
    let mut blob = Vec::new();
    let (info, _) =
        convert(layer.as_slice(), &conversion(Compression::EStargz), &mut blob).expect("converts");
    let offset = estargz_payload(&mut Cursor::new(&blob)).expect("reads").expect("estargz");
    let offset = usize::try_from(offset).expect("fits");
    let appended = plain(&blob[offset..]);
    let size =
        usize::from_str_radix(std::str::from_utf8(&appended[124..135]).expect("octal"), 8).expect("octal");
    let toc = &appended[512..512 + size];
    let digest = Digest::sha256(toc);
    let annotations = info.annotations();
    assert_eq!(annotations[0], ("containerd.io/snapshot/stargz/toc.digest", digest.to_string()));
    assert_eq!(annotations[1], ("io.containers.estargz.uncompressed-size", info.size.to_string()));

    let toc: serde_json::Value = serde_json::from_slice(toc).expect("JSON");
    assert_eq!(toc["version"], 1);
    let entries = toc["entries"].as_array().expect("entries");
    let mut files = std::collections::BTreeMap::new();
    for entry in entries {
        let name = entry["name"].as_str().expect("name");
        let kind = entry["type"].as_str().expect("type");
        if kind == "reg" {
            files.insert(name, (entry["size"].as_u64().unwrap_or(0), Vec::new(), entry["digest"].clone()));
        }
        if let Some(offset) = entry["offset"].as_u64() {
            let (size, content, _) = files.get_mut(name).expect("the first part comes first");
            assert_eq!(entry["chunkOffset"].as_u64().unwrap_or(0), content.len() as u64);
            let chunk = match entry["chunkSize"].as_u64() {
                Some(size) => size,
                None => *size - content.len() as u64,
            };
            let mut member = Vec::new();
            let input = &blob[usize::try_from(offset).expect("fits")..];
            let decoder = decoder(detect(input), input).expect("a decoder");
            decoder.take(chunk).read_to_end(&mut member).expect("decompresses alone");
            assert_eq!(entry["chunkDigest"], Digest::sha256(&member).as_str(), "{name}");
            content.extend(member);
        }
    }
    assert_eq!(files.len(), 6);
    for (name, (size, content, digest)) in files {
        assert_eq!(content.len() as u64, size, "{name}");
        assert_eq!(digest, Digest::sha256(&content).as_str(), "{name}");
    }
    let attributes = entries.iter().find(|entry| entry["name"] == "<é>").expect("entry");
    assert_eq!(attributes["xattrs"]["user.a"], "AP8=");
    assert_eq!(attributes["userName"], "seven");
    assert_eq!(attributes["modtime"], "2017-07-14T02:40:00Z");
}

#[test]
fn estargz_does_not_depend_on_how_it_is_written() {
    let layer = layer();
    let write = |step: usize| {
        let config = Config { kind: Compression::EStargz, ..Config::default() };
        let mut writer = LayerWriter::new(config, Vec::new()).expect("a writer");
        for part in layer.chunks(step) {
            writer.write_all(part).expect("writes");
        }
        writer.finish().expect("finishes")
    };
    let whole = write(layer.len());
    assert!(write(4097) == whole);
    assert!(write(512) == whole);
}

#[test]
fn what_estargz_cannot_have_is_refused() {
    let with = |header: &Header| {
        let mut writer = Writer::new(Vec::new());
        writer.entry(header).expect("encodes");
        writer.entry(&self::header(kind::FIFO, "next", 0)).expect("encodes");
        writer.finish().expect("ends")
    };
    for archive in [
        with(&header(kind::REGULAR, "./stargz.index.json", 0)),
        with(&header(kind::PAX_GLOBAL, "", 0)),
        b"no archive".repeat(100),
        vec![1],
    ] {
        assert!(converted(&archive, &conversion(Compression::EStargz)).is_err());
    }
    assert!(converted(b"", &conversion(Compression::EStargz)).is_ok());
}

/// Small layers in several dialects, and the digests of what the original makes of them with the epoch
/// 1 400 000 000.
fn dialects() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let write = |headers: &[Header]| {
        let mut writer = Writer::new(Vec::new());
        for header in headers {
            writer.entry(header).expect("encodes");
            writer.content(&vec![b'x'; usize::try_from(header.size).expect("small")]).expect("fits");
        }
        writer.finish().expect("ends")
    };
    let long = "l".repeat(150);
    let old = Time::from_seconds(1_300_000_000);
    let mut gnu = header(kind::REGULAR, &long, 5);
    (gnu.format, gnu.uid, gnu.atime) = (Format::GNU, 3_000_000, Some(Time::from_seconds(1_600_000_000)));
    let mut gnu_link = header(kind::SYMLINK, "link", 0);
    (gnu_link.format, gnu_link.link, gnu_link.mtime) = (Format::GNU, long.clone().into(), Some(old));
    let mut pax = header(kind::REGULAR, "pax", 700);
    for (key, value) in [("SCHILY.xattr.user.a", "v"), ("comment", "c"), ("path", "pax"), ("uid", "0")] {
        pax.records.insert(key.into(), value.into());
    }
    (pax.mtime, pax.atime) = (
        Some(Time { seconds: 1_500_000_000, nanoseconds: 5 }),
        Some(Time { seconds: 1_300_000_000, nanoseconds: 250_000_000 }),
    );
    let mut before = header(kind::DIRECTORY, "é/", 0);
    before.mtime = Some(Time { seconds: -2, nanoseconds: 500_000_000 });
    let mut unknown = header(kind::REGULAR, "unknown", 1);
    (unknown.format, unknown.mtime) =
        (Format::UNKNOWN, Some(Time { seconds: 1_300_000_000, nanoseconds: 600_000_000 }));
    let mut global = header(kind::PAX_GLOBAL, "global", 0);
    (global.mtime, global.mode) = (None, 0);
    global.records.insert(b"comment".to_vec(), b"all".to_vec());
    let mut ustar = write(&[header(kind::REGULAR, &format!("{long}/{}", "m".repeat(80)), 1), unknown]);
    // Numbers that end in a space are no dialect that Go knows.
    let mut spaces = ustar.clone();
    spaces[107] = b' ';
    spaces[148..156].fill(b' ');
    let sum: u32 = spaces[..512].iter().map(|&byte| u32::from(byte)).sum();
    spaces[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    // Something behind the end is not kept.
    ustar.extend_from_slice(&[0; 10_240]);
    vec![
        ("ustar", ustar, "sha256:77e7cca78455beee4cca7339efd3ed45dbd29c8b37423b2aaac4d48973fc6c8c"),
        ("spaces", spaces, "sha256:77e7cca78455beee4cca7339efd3ed45dbd29c8b37423b2aaac4d48973fc6c8c"),
        (
            "gnu",
            write(&[gnu, gnu_link]),
            "sha256:998d59f2aea5d8e62c81ea1002290a2a607b905d76664a63bd910ccecbcfb79f",
        ),
        (
            "pax",
            write(&[global, pax, before]),
            "sha256:3b44da968cad6032023839defd04f5cc46342827e5a4f5b3c0581b4dad6491bc",
        ),
    ]
}

#[test]
fn rewritten_layers_have_the_bytes_of_the_original() {
    let mut differ = Vec::new();
    for (name, archive, digest) in dialects() {
        let mut out = Vec::new();
        rewrite_times(archive.as_slice(), &mut out, 1_400_000_000, Limits::default()).expect("rewrites");
        if Digest::sha256(&out).as_str() != digest {
            differ.push(name);
        }
    }
    assert!(differ.is_empty(), "{differ:?}");
}

fn compress(kind: Compression, content: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Config { kind, ..Config::default() }, Vec::new()).expect("an encoder");
    encoder.write_all(content).expect("compresses");
    encoder.finish().expect("finishes")
}

#[test]
fn a2_17_broken_streams_end() {
    let mut writer = Writer::new(Vec::new());
    writer.entry(&header(kind::REGULAR, "file", 3000)).expect("encodes");
    writer.content(&bytes(3000)).expect("fits");
    let layer = writer.finish().expect("ends");
    let mut estargz = Vec::new();
    convert(layer.as_slice(), &conversion(Compression::EStargz), &mut estargz).expect("converts");
    // "hello hello hello hello\n", by xz and bzip2.
    let xz = hex::decode(XZ).expect("hex");
    let bzip2 = hex::decode(BZIP2).expect("hex");
    let blobs = [
        compress(Compression::Gzip, &layer),
        compress(Compression::Zstd, &layer),
        estargz,
        xz.clone(),
        bzip2,
    ];
    let to = conversion(Compression::Uncompressed);
    for blob in &blobs {
        let good = plain(blob);
        let whole = converted(blob, &to).expect("converts");
        assert!(plain(&whole) == good);
        for length in 1..blob.len() {
            // A prefix may be too short to tell the compression, or end with a member.
            if let Ok(out) = converted(&blob[..length], &to) {
                let out = plain(&out);
                assert!(length < 6 || good.starts_with(&out), "truncated to {length}");
            }
            let mut changed = blob.clone();
            changed[length] ^= 0x55;
            // Headers have bits that mean nothing.
            let _ = converted(&changed, &to);
        }
        for junk in [&b"junk behind the end"[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"] {
            let with_junk = [blob.as_slice(), junk].concat();
            // bzip2 and xz may pass over it; what comes out is right then.
            if let Ok(out) = converted(&with_junk, &to) {
                assert!(plain(&out) == good);
            }
        }
    }
    // Nothing at all is an empty layer.
    assert!(plain(&converted(b"", &to).expect("converts")).is_empty());
    let mut empty = Cursor::new(Vec::new());
    assert_eq!(estargz_payload(&mut empty).expect("reads"), None);
    for member in [compress(Compression::Gzip, b"x"), compress(Compression::Zstd, b"x")] {
        let out = converted(&member.repeat(1000), &to).expect("converts");
        assert!(plain(&out) == vec![b'x'; 1000]);
    }
}

#[test]
fn a2_17_broken_tables_of_estargz_are_none() {
    let mut blob = Vec::new();
    convert(layer().as_slice(), &conversion(Compression::EStargz), &mut blob).expect("converts");
    let end = blob.len();
    let payload = |blob: &[u8]| estargz_payload(&mut Cursor::new(blob)).expect("reads");
    let offset = payload(&blob).expect("estargz");
    for length in [0, 1, 46, 47, 50, 51, 52, 100, end / 2, end - 52, end - 1] {
        assert_eq!(payload(&blob[..length]), None, "{length}");
    }
    for change in end - 51..end - 13 {
        let mut changed = blob.clone();
        changed[change] = b'7';
        // The offset is anywhere else, or it is no footer, or the byte means nothing there.
        let found = payload(&changed);
        assert!(found.is_none() || found == Some(offset), "{change}");
    }
    let toc = usize::try_from(offset).expect("fits");
    for change in toc..toc + 60 {
        let mut changed = blob.clone();
        changed[change] ^= 0xff;
        payload(&changed);
    }
}

/// Bytes of physical memory that this process had at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("number") << 10
}

/// The same bytes again and again.
struct Endless {
    bytes: Vec<u8>,
    left: u64,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer
            .len()
            .min(self.bytes.len() - self.at)
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at = (self.at + count) % self.bytes.len();
        self.left -= count as u64;
        Ok(count)
    }
}

#[test]
fn a4_02_bombs_are_stopped() {
    let before = peak();
    let limits = Limits { ratio: 200, after: 64 << 20 };
    for kind in [Compression::Gzip, Compression::Zstd] {
        // A gigabyte of archives that would become a terabyte or more.
        let member = compress(kind, &vec![0; 4 << 20]);
        assert!(member.len() < 8192, "{kind}: {}", member.len());
        let bomb = BufReader::new(Endless { bytes: member, left: 1 << 30, at: 0 });
        let conversion = Conversion { limits, ..conversion(Compression::Uncompressed) };
        let mut written = Counter(0);
        let error = convert(bomb, &conversion, &mut written).expect_err("stopped");
        assert!(error.to_string().contains("more than 200 times as many"), "{error}");
        assert!(written.0 <= (64 << 20) + (1 << 20), "{} bytes were written", written.0);
    }
    // Windows of zstd of 2 GiB.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0];
    assert!(converted(&window, &conversion(Compression::Uncompressed)).is_err());
    // Nested ones are opened once.
    let mut nested = compress(Compression::Gzip, &vec![0; 1 << 20]);
    for _ in 0..41 {
        nested = compress(Compression::Gzip, &nested);
    }
    let out = converted(&nested, &conversion(Compression::Uncompressed)).expect("converts");
    assert_eq!(&out[..3], &[0x1f, 0x8b, 8]);
    // What is only large is let through.
    let large = BufReader::new(Endless { bytes: bytes(1 << 20), left: 100 << 20, at: 0 });
    let conversion = Conversion { limits, ..conversion(Compression::Uncompressed) };
    convert(large, &conversion, &mut Counter(0)).expect("converts");
    assert!(peak() - before < 128 << 20, "{} bytes of memory", peak() - before);
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_the_source_are_told_as_such() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    impl BufRead for Broken {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Err(io::Error::other("gone"))
        }
        fn consume(&mut self, _: usize) {}
    }
    let error = convert(Broken, &conversion(Compression::Gzip), &mut Vec::new()).expect_err("fails");
    assert_eq!(error.to_string(), "Failed to decompress a layer: gone");
}
