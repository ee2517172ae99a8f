//! What registries want to see, in headers separated by zeros.
#![no_main]

use buildkit_util_resolver::challenge::Challenge;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let best = Challenge::best(bytes.split(|byte| *byte == 0));
    if let Some(Challenge::Bearer(bearer)) = best {
        assert!(!bearer.realm.is_empty() && bearer.realm.len() <= bytes.len());
    }
});
