//! Decisions recorded from the Go implementation; see the README beside the vectors.

use std::path::Path;

use buildkit_util_gopath::clean;
use buildkit_util_patternmatcher::{MatchInfo, PatternMatcher, read_all};
use serde::Deserialize;

fn vectors(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fsutil/tests/vectors");
    std::fs::read_to_string(dir.join(name)).expect("the vectors are in the repository")
}

#[derive(Deserialize)]
struct Patterns {
    lists: Vec<List>,
    paths: Vec<String>,
}

#[derive(Deserialize)]
struct List {
    patterns: Vec<String>,
    #[serde(default)]
    results: String,
    #[serde(default)]
    error: String,
}

fn letter(result: Result<bool, buildkit_util_patternmatcher::Error>) -> char {
    match result {
        Ok(true) => '1',
        Ok(false) => '0',
        Err(_) => 'e',
    }
}

/// Asks for each directory from the top, handing results down.
fn walking(matcher: &PatternMatcher, path: &str) -> char {
    let mut info = MatchInfo::default();
    let mut answer = 'e';
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let mut next = MatchInfo::default();
        let result = matcher.matches_using_parent_results(&path[..end], &info, Some(&mut next));
        answer = letter(result);
        if answer == 'e' {
            break;
        }
        info = next;
    }
    answer
}

#[test]
fn patterns() {
    let vectors: Patterns = serde_json::from_str(&vectors("patterns.json")).expect("well formed");
    let mut wrong = Vec::new();
    let mut compared = 0;
    for list in &vectors.lists {
        let matcher = match PatternMatcher::new(&list.patterns) {
            Ok(matcher) => matcher,
            Err(error) => {
                assert_eq!(error.to_string(), list.error, "{:?}", list.patterns);
                continue;
            }
        };
        assert_eq!(list.error, "", "{:?}", list.patterns);
        for (path, expect) in vectors.paths.iter().zip(list.results.split(' ')) {
            // Those who walk trees never have other paths.
            if path != &clean(path) || path.starts_with('/') {
                continue;
            }
            let answers: String =
                [letter(matcher.matches_or_parent_matches(path)), walking(&matcher, path)].iter().collect();
            compared += 1;
            if answers != expect[1..] {
                wrong.push(format!("{:?} {path:?}: {answers}, not {}", list.patterns, &expect[1..]));
            }
        }
    }
    assert!(compared > 5000, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}

#[derive(Deserialize)]
struct IgnoreFile {
    input: String,
    lines: Option<Vec<String>>,
}

#[test]
fn ignore_files() {
    let vectors: Vec<IgnoreFile> = serde_json::from_str(&vectors("ignorefile.json")).expect("well formed");
    for vector in vectors {
        let lines = read_all(vector.input.as_bytes()).expect("is small");
        assert_eq!(lines, vector.lines.unwrap_or_default(), "{:?}", vector.input);
    }
}
