use proptest::prelude::*;

use super::*;

fn check(patterns: &[&str], path: &str) -> Result<bool, Error> {
    matches_or_parent_matches(path, patterns)
}

#[test]
fn decides_as_upstream() {
    for (patterns, path, expect) in [
        (&["**"][..], "file", true),
        (&["**"], "dir/file", true),
        (&["**/"], "dir/dir2/file", true),
        (&["**/**"], "dir/file", true),
        (&["dir/**"], "dir/file", true),
        (&["dir/**"], "dir", false),
        (&["dir"], "dir/file", true),
        (&["**/dir2/*"], "dir/dir2/file", true),
        (&["**/dir2/**"], "dir/dir2/dir3/file", true),
        (&["**file"], "dir/file", true),
        (&["**/file"], "file", true),
        (&["**file"], "dir/dir/file", true),
        (&["**/file*"], "dir/dir/file.txt", true),
        (&["**/file*txt"], "dir/dir/file.txt", true),
        (&["**/**/*.txt"], "file.txt", true),
        (&["*.txt"], "dir/file.txt", false),
        (&["a**/*.txt"], "a/file.txt", true),
        (&["a[b-d]e"], "ace", true),
        (&["a[^b-d]e"], "aze", true),
        (&["a\\*b"], "a*b", true),
        (&["a\\b"], "a\\b", false),
        (&["file?.txt"], "file1.txt", true),
        (&["abc.def"], "abcdef", false),
        (&["abc?def"], "abc/def", false),
        (&["a\\\\"], "a\\", true),
        (&["**/foo/bar"], "foo/bar", true),
        (&["**/foo/bar"], "dir/foo/bar", true),
        (&["abc/**"], "abc", false),
        (&["abc/**"], "abc/def/ghi", true),
        (&["**/.foo"], "bar.foo", false),
        (&["a(b)c/def"], "a(b)c/def", true),
        (&["a.|)$(}+{bc"], "a.|)$(}+{bc", true),
        (
            &["dist/*.whl", "!dist/proxy.py-2.4.0rc3.dev1-py3-none-any.whl"],
            "dist/proxy.py-2.4.0rc3.dev1-py3-none-any.whl",
            false,
        ),
        (&["*", "!a"], "a/b", false),
        (&["*", "!a/b"], "a/b/c", false),
        (&["*", "!a/b"], "a/c", true),
        (&["a", "!a/b", "a/b/c"], "a/b/c", true),
        (&["!a", "a"], "a", true),
        (&["  a  "], "a", true),
        (&["a|b*"], "axyz", true),
        (&["\\d*"], "7up", true),
        (&["."], ".", false),
    ] {
        assert_eq!(check(patterns, path), Ok(expect), "{patterns:?} {path:?}");
    }
}

#[test]
fn refuses_malformed_patterns() {
    assert_eq!(check(&["!"], "a"), Err(Error::LoneExclusion));
    assert_eq!(check(&["["], "a"), Err(Error::BadPattern));
    assert_eq!(check(&["a\\q*"], "a"), Err(Error::BadPattern));
    let matcher = PatternMatcher::new(["a"]).expect("well formed");
    let foreign = MatchInfo { matched: vec![true, false] };
    assert_eq!(matcher.matches_using_parent_results("a", &foreign, None), Err(Error::ForeignMatchInfo));
}

/// What both entry points decide on a path, the second by walking down to it.
fn both(matcher: &PatternMatcher, path: &str) -> (Result<bool, Error>, Result<bool, Error>) {
    let direct = matcher.matches_or_parent_matches(path);
    let mut info = MatchInfo::default();
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let mut walked = Ok(false);
    for end in ends {
        let mut next = MatchInfo::default();
        walked = matcher.matches_using_parent_results(&path[..end], &info, Some(&mut next));
        info = next;
    }
    (direct, walked)
}

/// Any text as a pattern and as a path: no panic, and nothing but an answer or an error.
fn fuzz_pattern(pattern: &str, path: &str) {
    let _ = crate::read_all(pattern.as_bytes());
    let _ = glob_match(pattern, path);
    if let Ok(matcher) = PatternMatcher::new(pattern.lines()) {
        let _ = both(&matcher, path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(buildkit_util_testutil::rounds(2000) as u32))]

    #[test]
    fn any_text_is_answered(pattern in "[a-c*?!/.\\[\\]^|{}0-9,\\\\-]{0,12}|\\PC{0,12}", path in "[a-c/.\n]{0,8}|\\PC{0,8}") {
        fuzz_pattern(&pattern, &path);
    }

    #[test]
    fn affixes_change_nothing(pattern in "[ab*?/.]{1,8}", path in "[ab]{1,3}(/[ab.]{1,3}){0,3}") {
        if let Compiled::Expression(expression) = Compiled::new(&pattern) {
            prop_assert_eq!(
                expression.matches(&path),
                expression.matches_by_regex(&path),
                "{} {}", pattern, path
            );
        }
    }

    #[test]
    fn walking_down_changes_nothing_without_exclusions(
        patterns in prop::collection::vec("[ab*?/]{1,6}", 1..4),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        if let Ok(matcher) = PatternMatcher::new(&patterns) {
            let (direct, walked) = both(&matcher, &path);
            prop_assert_eq!(direct, walked, "{:?} {}", patterns, path);
        }
    }
}
