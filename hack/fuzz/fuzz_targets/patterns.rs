//! Ignore files and patterns: any text is answered, and both ways to ask agree.
#![no_main]

use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher, glob_match, read_all};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (patterns, path) = input;
    let _ = read_all(patterns.as_bytes());
    let _ = glob_match(patterns, path);
    let Ok(matcher) = PatternMatcher::new(patterns.lines()) else { return };
    let _ = matcher.matches_or_parent_matches(path);
    let mut info = MatchInfo::default();
    for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
        let mut next = MatchInfo::default();
        let _ = matcher.matches_using_parent_results(&path[..end], &info, Some(&mut next));
        info = next;
    }
});
