//! Layers: read, rewritten, and applied both ways.
#![no_main]

use buildkit_util_archive::{ApplyOptions, Chunk, Reader, Whiteouts, apply_layer};
use buildkit_util_compression::Limits;
use buildkit_util_converter::rewrite_times;

const LIMITS: Limits = Limits { ratio: 10, after: 1 << 20 };

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let sealed = seal(bytes);
    for archive in [bytes, &sealed] {
        let readable = read(archive);
        let mut rewritten = Vec::new();
        if rewrite_times(archive, &mut rewritten, 1_000_000_000, LIMITS).is_ok() {
            assert!(readable, "what is rewritten is valid");
            assert!(read(&rewritten), "what is written is valid");
            let mut again = Vec::new();
            rewrite_times(rewritten.as_slice(), &mut again, 1_000_000_000, LIMITS).expect("rewrites again");
            assert!(again == rewritten, "rewriting again changes nothing");
        }
        for whiteouts in [Whiteouts::Remove, Whiteouts::Overlay { userxattr: false }] {
            let dir = tempfile::tempdir().expect("temporary directory");
            let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
            std::fs::create_dir(&root).expect("mkdir");
            std::fs::write(&outside, "outside").expect("write");
            let options = ApplyOptions { limits: LIMITS, ..ApplyOptions::new(whiteouts) };
            let _ = apply_layer(&root, &mut &*archive, &options);
            assert_eq!(std::fs::read(&outside).expect("read"), b"outside");
            assert_eq!(std::fs::read_dir(dir.path()).expect("readdir").count(), 2);
        }
    }
});

fn read(archive: &[u8]) -> bool {
    let mut reader = Reader::new(archive).with_limits(LIMITS);
    loop {
        match reader.entry() {
            Ok(None) => return true,
            Ok(Some(_)) => {}
            Err(_) => return false,
        }
        let mut total = 0u64;
        loop {
            match reader.chunk() {
                Ok(None) => break,
                Ok(Some(Chunk::Data(bytes))) => total += bytes.len() as u64,
                Ok(Some(Chunk::Hole(count))) => total += count,
                Err(_) => return false,
            }
        }
        assert!(total <= (archive.len() as u64 * 11).max(1 << 20));
    }
}

/// The same blocks with checksums that are right, which nobody guesses.
fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    for block in sealed.chunks_exact_mut(512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    sealed
}
