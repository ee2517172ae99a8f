//! What goes in comes out, whatever the number of threads.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use buildkit_util_compression::{Compression, Config, Detected, Encoder, decoder, detect};
use proptest::prelude::*;

fn encode(config: Config, data: &[u8], threads: usize, step: usize) -> Vec<u8> {
    let mut encoder = Encoder::with_threads(config, Vec::new(), Some(threads)).expect("an encoder");
    for part in data.chunks(step.max(1)) {
        encoder.write_all(part).expect("compresses");
    }
    encoder.finish().expect("finishes")
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    decoder(detect(bytes), bytes).expect("a decoder").read_to_end(&mut out).expect("decompresses");
    out
}

fn config(kind: Compression) -> Config {
    Config { kind, ..Config::default() }
}

/// Text-like content of any length.
fn content(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    let words: Vec<Vec<u8>> =
        (0..500u32).map(|word| format!("{:x} ", word.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(&words[(state >> 16) as usize % words.len()]);
    }
    out.truncate(len);
    out
}

#[test]
fn threads_and_writes_do_not_change_the_output() {
    for kind in [Compression::Gzip, Compression::Zstd, Compression::Uncompressed] {
        for len in [0, 1, 1000, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9 << 20] {
            let data = content(len);
            let one = encode(config(kind), &data, 1, data.len());
            assert!(decode(&one) == data, "{kind} of {len} bytes");
            assert!(encode(config(kind), &data, 5, 777_777) == one, "{kind} of {len} bytes");
        }
    }
}

#[test]
fn other_programs_read_it() {
    let data = content(3 << 20);
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is there");
    let compressed = encode(config(Compression::Gzip), &data, 3, 100_000);
    assert!(compressed.len() < data.len() / 2, "{} bytes", compressed.len());
    let mut input = child.stdin.take().expect("a pipe");
    let feed = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(&compressed).expect("writes"));
        child.wait_with_output().expect("ends")
    });
    assert!(feed.status.success() && feed.stdout == data);
}

#[test]
fn levels_matter_and_have_bounds() {
    let data = content(2 << 20);
    for kind in [Compression::Gzip, Compression::Zstd] {
        let size = |level| encode(Config { kind, level: Some(level), force: false }, &data, 2, 1 << 20).len();
        assert_ne!(size(1), size(9), "{kind}");
        assert_eq!(size(1000), if kind == Compression::Gzip { size(9) } else { size(22) });
    }
    assert!(Encoder::new(config(Compression::EStargz), Vec::new()).is_err());
}

#[test]
fn damaged_streams_are_errors() {
    for kind in [Compression::Gzip, Compression::Zstd] {
        let good = encode(config(kind), &content(100_000), 1, 1000);
        let fails = |bytes: &[u8]| {
            let mut out = Vec::new();
            decoder(detect(&good), bytes).expect("a decoder").read_to_end(&mut out).is_err()
        };
        assert!(fails(&good[..good.len() / 2]), "{kind} cut");
        assert!(fails(&[&good[..], b"more"].concat()), "{kind} with something behind it");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 0x40;
        assert!(fails(&bad), "{kind} with a wrong bit");
        // One after the other is as good as one.
        let twice = [&good[..], &good[..]].concat();
        assert_eq!(decode(&twice).len(), 200_000, "{kind}");
    }
    assert_eq!(detect(b"\x1f\x8b"), Detected::Plain);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn anything_survives(data in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..200, step in 1usize..9000) {
        let data = data.repeat(repeat);
        for kind in [Compression::Gzip, Compression::Zstd] {
            prop_assert!(decode(&encode(config(kind), &data, 2, step)) == data);
        }
    }
}
