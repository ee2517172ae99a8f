//! The packets of a directory transfer: what the validator lets pass is sorted, unique and inside.
#![no_main]

use std::{cmp::Ordering, collections::HashSet};

use buildkit_util_fsutil::types::Packet;
use buildkit_util_fsutil::{Validator, compare_paths};
use prost::Message as _;

/// Go's mode bit of directories.
const DIRECTORY: u32 = 1 << 31;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut validator = Validator::default();
    let mut directories = HashSet::from([String::new()]);
    let mut last: Option<String> = None;
    while !rest.is_empty() {
        let Ok(packet) = Packet::decode_length_delimited(&mut rest) else { return };
        let Some(stat) = packet.stat else { continue };
        if validator.check(&stat).is_err() {
            return;
        }
        let path = stat.path;
        assert!(!path.split('/').any(|name| matches!(name, "" | "." | "..")), "{path:?}");
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(directories.contains(parent), "{path:?} has no directory");
        if let Some(last) = &last {
            assert_eq!(compare_paths(last, &path), Ordering::Less);
        }
        if stat.mode & DIRECTORY != 0 {
            directories.insert(path.clone());
        }
        last = Some(path);
    }
});
