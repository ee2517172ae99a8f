//! What names a repository and what it says is the same as for the original, which wrote `refs.jsonl`.

use buildkit_frontend_dockerfile_dfgitutil::{GitRef, MTime};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    match GitRef::parse(text) {
        None => Value::Null,
        Some(Err(error)) => json!(error.to_string()),
        Some(Ok(git)) => json!([
            git.remote,
            git.short_name,
            git.reference,
            git.checksum,
            git.subdir,
            git.looks_local,
            git.unencrypted,
            git.keep_git_dir,
            git.submodules,
            git.mtime.map_or("", MTime::as_str),
            git.fetch_by_commit,
        ]),
    }
}

#[test]
fn names_are_read_as_the_original_does() {
    let mut different = Vec::new();
    for line in include_str!("refs.jsonl").lines() {
        let (text, recorded): (String, Value) = serde_json::from_str(line).expect("a recorded line");
        let ours = parsed(&text);
        if ours != recorded {
            different.push(format!("{text:?}\n  ours     {ours}\n  original {recorded}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Rust's own form of quotes has other escapes.
#[test]
fn errors_quote_as_go_does() {
    let error = |query: &str| match GitRef::parse(&format!("https://x.y/a.git?{query}")) {
        Some(Err(error)) => error.to_string(),
        other => panic!("{query} is {other:?}"),
    };
    assert_eq!(error("%01%C2%85=x"), "unexpected query \"\\x01\\u0085\"");
    assert_eq!(error("mtime=%07'"), "invalid mtime value: \"\\a'\" (must be \"checkout\" or \"commit\")");
    assert_eq!(error("tag=%7F&ref=b"), "ref conflicts: \"b\" vs \"refs/tags/\\x7f\"");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        start in "(https?://|git@|ssh://|github\\.com/)?",
        rest in "[a-z.:/?#@%&=\\[\\]é -]{0,40}",
    ) {
        if let Some(Ok(git)) = GitRef::parse(&format!("{start}{rest}")) {
            prop_assert!(!git.subdir.starts_with('/') || rest.contains("subdir"));
        }
    }
}
