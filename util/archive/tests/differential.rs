//! What GNU tar makes of archives that were changed at random: whatever is read here, it reads the same way or
//! refuses, so that no entry is hidden from one of the two. Needs GNU tar.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit_util_archive::{Chunk, Format, Header, Reader, Time, Writer, kind};
use buildkit_util_testutil::rounds_or;

const BLOCK: usize = 512;

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// An entry as both tell it.
#[derive(Clone, PartialEq, Eq)]
struct Listed {
    name: Vec<u8>,
    /// What a link leads to.
    link: Vec<u8>,
    /// Bytes of content, for files.
    size: Option<u64>,
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, link, size } = self;
        write!(f, "{:?} {size:?}", String::from_utf8_lossy(name))?;
        if link.is_empty() { Ok(()) } else { write!(f, " to {:?}", String::from_utf8_lossy(link)) }
    }
}

/// A valid archive of a few entries.
fn archive(random: &mut Random) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for _ in 0..=random.below(4) {
        let entry_kind = *random.pick(&[
            kind::REGULAR,
            kind::REGULAR,
            kind::DIRECTORY,
            kind::SYMLINK,
            kind::LINK,
            kind::FIFO,
            kind::CHAR_DEVICE,
        ]);
        let name = match random.below(4) {
            0 => format!("{}/{}", "d".repeat(random.below(150) + 1), "f".repeat(random.below(150) + 1)),
            1 => "ä/ö".to_owned(),
            _ => format!("e{}", random.below(10)),
        };
        let content = if entry_kind == kind::REGULAR { vec![b'x'; random.below(1500)] } else { Vec::new() };
        let is_link = matches!(entry_kind, kind::SYMLINK | kind::LINK);
        let mtime = Time { seconds: 1_000_000_000, nanoseconds: 5 * (random.below(2) as u32) };
        writer
            .entry(&Header {
                kind: entry_kind,
                name: name.into_bytes(),
                link: if is_link { format!("e{}", random.below(10)).into_bytes() } else { Vec::new() },
                size: i64::try_from(content.len()).expect("small"),
                mode: 0o644,
                mtime: Some(mtime),
                format: *random.pick(&[Format::PAX, Format::GNU]),
                ..Header::default()
            })
            .expect("encodes");
        writer.content(&content).expect("writes");
    }
    writer.finish().expect("ends")
}

/// PAX records in front of an entry, some of which contradict its header.
fn records(random: &mut Random) -> Vec<u8> {
    let records: String = (0..=random.below(3))
        .map(|_| {
            let (key, value) = *random.pick(&[
                ("path", "other"),
                ("size", "512"),
                ("size", "0"),
                ("linkpath", "elsewhere"),
                ("comment", "none"),
                ("mtime", "1.5"),
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "10"),
                ("GNU.sparse.name", "sparse"),
                ("GNU.sparse.map", "0,5"),
                ("GNU.sparse.size", "10"),
                ("uid", "7"),
            ]);
            let length = key.len() + value.len() + 4;
            let length = if length > 9 { length + 1 } else { length };
            // Sometimes the length is wrong.
            format!("{} {key}={value}\n", length - usize::from(random.below(50) == 0))
        })
        .collect();
    let mut block = vec![0; BLOCK];
    block[0] = b'r';
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", records.len()).as_bytes());
    block[156] = if random.below(4) == 0 { b'g' } else { b'x' };
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block.extend_from_slice(records.as_bytes());
    block.resize(block.len().next_multiple_of(BLOCK), 0);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn is_header(block: &[u8]) -> bool {
    block[257..262] == *b"ustar"
}

/// Changes an archive at random, mostly so that its headers stay valid.
fn change(archive: &mut Vec<u8>, random: &mut Random) {
    let headers: Vec<usize> =
        (0..archive.len() / BLOCK).filter(|at| is_header(&archive[at * BLOCK..][..BLOCK])).collect();
    if headers.is_empty() {
        return;
    }
    let at = *random.pick(&headers) * BLOCK;
    match random.below(8) {
        0 => {
            let records = records(random);
            archive.splice(at..at, records);
        }
        1 => {
            let block = archive[at..at + BLOCK].to_vec();
            archive.splice(at..at, block);
        }
        2 => {
            archive.splice(at..at, [0; BLOCK]);
        }
        3 => archive.truncate(archive.len() - random.below(archive.len() / 2)),
        4 => {
            let byte = random.below(archive.len());
            archive[byte] = random.next() as u8;
        }
        _ => {
            let block = &mut archive[at..at + BLOCK];
            match random.below(4) {
                // Types.
                0 => block[156] = *random.pick(b"\x0001234567xgLKS"),
                // Sizes: octal, with spaces, in binary.
                1 => {
                    let size = *random.pick(&[
                        "00000000000\0",
                        "00000001000\0",
                        "       1000 ",
                        "1000\0\0\0\0\0\0\0\0",
                    ]);
                    block[124..136].copy_from_slice(size.as_bytes());
                }
                2 => {
                    block[124..136].fill(0);
                    block[124] = 0x80;
                    block[134] = random.below(8) as u8;
                }
                // Whatever a field has. Where GNU has times, Go takes what is none for a part of the name, as old
                // versions of it wrote that there.
                _ => {
                    let fields = [0, 100, 124, 135, 156, 157, 257, 263, 329, 482, 345, 386];
                    let known =
                        if block[257..265] == *b"ustar  \0" { fields.len() - 2 } else { fields.len() };
                    block[*random.pick(&fields[..known])] = random.next() as u8;
                }
            }
            seal(block);
        }
    }
}

/// What is read here; `None` if the archive is refused.
fn ours(archive: &[u8]) -> Option<Vec<Listed>> {
    let mut reader = Reader::new(archive);
    let mut listed = Vec::new();
    while let Some(header) = reader.entry().ok()? {
        let mut size = 0;
        while let Some(chunk) = reader.chunk().ok()? {
            size += match chunk {
                Chunk::Data(bytes) => bytes.len() as u64,
                Chunk::Hole(count) => count,
            };
        }
        if header.kind == kind::PAX_GLOBAL {
            continue;
        }
        let is_link = matches!(header.kind, kind::LINK | kind::SYMLINK);
        let is_file = matches!(header.kind, kind::REGULAR | kind::GNU_SPARSE | b'7');
        // Whoever unpacks refuses all other types; to GNU tar some of them are descriptions.
        if !is_file && !(kind::LINK..=kind::FIFO).contains(&header.kind) {
            return None;
        }
        listed.push(Listed {
            name: header.name.clone(),
            link: if is_link { header.link.clone() } else { Vec::new() },
            size: is_file.then_some(size),
        });
    }
    Some(listed)
}

/// What GNU tar reads; `None` if it complains.
fn gnus(archive: &[u8]) -> Option<Vec<Listed>> {
    let mut tar = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--quoting-style=c", "--file=-"])
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tar runs");
    // It may stop to read before all is written.
    let _ = tar.stdin.take().expect("piped").write_all(archive);
    let output = tar.wait_with_output().expect("tar ends");
    if !output.status.success() {
        return None;
    }
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Some(lines.map(listed_of).collect())
}

/// Reads a line such as `-rw-r--r-- 0/0 5 2001-09-09 01:46 "name" link to "other"`.
fn listed_of(line: &[u8]) -> Listed {
    let start = line.iter().position(|&byte| byte == b'"').expect("a quoted name");
    let fields: Vec<_> =
        line[..start].split(|&byte| byte == b' ').filter(|field| !field.is_empty()).collect();
    let size = std::str::from_utf8(fields[2]).expect("text").parse().ok();
    let (name, rest) = unquote(&line[start..]);
    let link = rest.strip_prefix(b" -> ").or_else(|| rest.strip_prefix(b" link to "));
    let is_file = matches!(line[0], b'-' | b'C');
    Listed { name, link: link.map_or_else(Vec::new, |link| unquote(link).0), size: size.filter(|_| is_file) }
}

/// A text in the quotes of C, and what is behind it.
fn unquote(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut plain, mut at) = (Vec::new(), 1);
    loop {
        match text[at] {
            b'"' => return (plain, &text[at + 1..]),
            b'\\' => {
                at += 1;
                plain.push(match text[at] {
                    b'a' => 7,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    digit @ b'0'..=b'7' => {
                        let octal =
                            text[at..].iter().take(3).take_while(|byte| (b'0'..=b'7').contains(*byte));
                        let digits = octal.clone().count();
                        at += digits - 1;
                        let _ = digit;
                        octal.fold(0u32, |number, &byte| number * 8 + u32::from(byte - b'0')) as u8
                    }
                    other => other,
                });
                at += 1;
            }
            byte => {
                plain.push(byte);
                at += 1;
            }
        }
    }
}

/// Whether both lists are of the same entries.
fn agree(ours: &[Listed], gnus: &[Listed]) -> bool {
    // Some kinds it has no line for, as the names of volumes; those are no entries here either.
    let without_end = |name: &[u8]| {
        let end = name.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
        name[..end].to_vec()
    };
    ours.len() == gnus.len()
        && ours.iter().zip(gnus).all(|(one, other)| {
            // A slash at the end makes a directory of a file there, which changes no other entry.
            let is_directory = one.name.ends_with(b"/");
            without_end(&one.name) == without_end(&other.name)
                // It has a dot for a link to nothing.
                && (one.link == other.link || (one.link.is_empty() && other.link == b"."))
                && (one.size == other.size || is_directory)
        })
}

#[test]
fn a3_02_gnu_tar_reads_the_same() {
    let count = rounds_or(400, 1_000_000);
    let (next, read, both) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let mut random = Random(seed);
                    let mut changed = archive(&mut random);
                    for _ in 0..random.below(3) {
                        change(&mut changed, &mut random);
                    }
                    // What is refused here is no danger to anybody.
                    let Some(ours) = ours(&changed) else { continue };
                    read.fetch_add(1, Ordering::Relaxed);
                    let Some(gnus) = gnus(&changed) else { continue };
                    both.fetch_add(1, Ordering::Relaxed);
                    if !agree(&ours, &gnus) {
                        let kept = format!("{}/archive-{seed}.tar", env!("CARGO_TARGET_TMPDIR"));
                        std::fs::write(&kept, &changed).expect("writes");
                        panic!("{kept}:\nhere {ours:#?}\nGNU tar {gnus:#?}");
                    }
                }
            });
        }
    });
    let (read, both) = (read.into_inner(), both.into_inner());
    // Otherwise nothing would be compared.
    assert!(both > count / 4, "of {count} archives {read} were read here and {both} by both");
}
