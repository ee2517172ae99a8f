//! Compressed layers of all kinds, and the ends of those in estargz.
#![no_main]

use std::io::{Cursor, Read};

use buildkit_util_compression::{Compression, Config, Detected, Limits, detect, limited_decoder};
use buildkit_util_converter::{Conversion, convert, estargz_payload};

const LIMITS: Limits = Limits { ratio: 50, after: 1 << 20 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut cursor = Cursor::new(bytes);
    if let Ok(Some(end)) = estargz_payload(&mut cursor) {
        assert!(end < bytes.len() as u64);
    }
    for kind in [detect(bytes), Detected::Gzip, Detected::Bzip2, Detected::Xz, Detected::Zstd] {
        let Ok(mut decoder) = limited_decoder(kind, bytes, LIMITS) else { continue };
        let mut buffer = [0; 16 << 10];
        let mut total = 0;
        while let Ok(count @ 1..) = decoder.read(&mut buffer) {
            total += count as u64;
        }
        assert!(total <= (bytes.len() as u64 * 50 + 50).max(1 << 20));
    }
    for kind in [Compression::EStargz, Compression::Uncompressed] {
        let to = Config { kind, ..Config::default() };
        for epoch in [None, Some(1)] {
            let _ = convert(bytes, &Conversion { to, epoch, limits: LIMITS }, &mut std::io::sink());
        }
    }
});
