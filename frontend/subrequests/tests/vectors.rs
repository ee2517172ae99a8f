//! Answers are those of the original: each file in `vectors` is what it made of the same values.

use base64::Engine as _;
use buildkit_frontend_subrequests::{
    Answer, BuildError, CacheArea, ConvertedGraph, LintResults, LintWarning, OUTLINE, Outline, OutlineArg,
    OutlineSecret, OutlineSsh, TARGETS, Target, TargetList, describe, key,
};
use buildkit_solver_pb::{Definition, Location, Position, Range, SourceInfo};
use prost::Message;

/// Lines of a file, each as a range that ends at character 3.
fn lines(source_index: i32, lines: &[i32]) -> Location {
    let range = |line: &i32| range(*line, *line, 3);
    Location { source_index, ranges: lines.iter().map(range).collect() }
}

fn range(start: i32, end: i32, character: i32) -> Range {
    Range {
        start: Some(Position { line: start, character: 0 }),
        end: Some(Position { line: end, character }),
    }
}

/// The answer has the recorded parts, and the version beside them.
fn check(answer: &Answer, version: &str, recorded: &[(&str, &[u8])]) {
    let mut parts: Vec<(&str, String)> =
        recorded.iter().map(|(key, value)| (*key, String::from_utf8_lossy(value).into_owned())).collect();
    parts.push((key::VERSION, version.to_owned()));
    let answer: Vec<(&str, String)> = answer
        .iter()
        .map(|(key, value)| (key.as_str(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    assert_eq!(answer, parts);
}

macro_rules! recorded {
    ($name:literal $(, $key:literal)*) => {
        &[$(($key, include_bytes!(concat!("vectors/", $name, ".", $key)).as_slice())),*]
    };
}

#[test]
fn requests_are_described() {
    check(&describe(&[OUTLINE, TARGETS]), "1.0.0", recorded!("describe", "result.json", "result.txt"));
}

#[test]
fn outlines() {
    let arg = |name: &str, value: &str, description: &str, location| OutlineArg {
        name: name.to_owned(),
        value: value.to_owned(),
        description: description.to_owned(),
        location,
    };
    let outline = Outline {
        name: "final".to_owned(),
        description: "what <is> built\twith é".to_owned(),
        args: vec![
            arg("VERSION", "1.2", "which one", Some(lines(0, &[3]))),
            arg("LONGER_NAME_é", "", "", Some(lines(0, &[4, 5]))),
            arg("X", "", "only described", None),
        ],
        secrets: vec![
            OutlineSecret { name: "npm".to_owned(), required: true, location: Some(lines(0, &[8])) },
            OutlineSecret { name: "other".to_owned(), required: false, location: None },
        ],
        ssh: vec![
            OutlineSsh { name: "default".to_owned(), required: false, location: Some(lines(1, &[9])) },
            OutlineSsh { name: "k".to_owned(), required: true, location: None },
        ],
        cache: vec![
            CacheArea { id: "/root/.cache".to_owned(), location: Some(lines(0, &[10])) },
            CacheArea::default(),
        ],
        sources: vec!["FROM scratch\n".into(), "".into()],
    };
    check(&outline.to_answer(), "1.0.0", recorded!("outline", "result.json", "result.txt"));
    let unnamed =
        Outline { description: "d".to_owned(), args: vec![arg("A", "", "", None)], ..Outline::default() };
    check(&unnamed.to_answer(), "1.0.0", recorded!("outline-unnamed", "result.json", "result.txt"));
    let empty = Outline::default();
    check(&empty.to_answer(), "1.0.0", recorded!("outline-empty", "result.json", "result.txt"));
}

#[test]
fn targets() {
    let list = TargetList {
        targets: vec![
            Target {
                name: "base".to_owned(),
                base: "alpine".to_owned(),
                platform: "linux/amd64".to_owned(),
                location: Some(lines(0, &[1])),
                ..Target::default()
            },
            Target { description: "nameless".to_owned(), base: "base".to_owned(), ..Target::default() },
            Target {
                name: "a-much-longer-name".to_owned(),
                default: true,
                description: "the one".to_owned(),
                base: "scratch".to_owned(),
                location: Some(lines(0, &[7])),
                ..Target::default()
            },
        ],
        sources: vec!["x".into()],
    };
    check(&list.to_answer(), "1.0.0", recorded!("targets", "result.json", "result.txt"));
    let unnamed =
        TargetList { targets: vec![Target { default: true, ..Target::default() }], sources: Vec::new() };
    check(&unnamed.to_answer(), "1.0.0", recorded!("targets-unnamed", "result.json", "result.txt"));
    let empty = TargetList::default();
    check(&empty.to_answer(), "1.0.0", recorded!("targets-empty", "result.json", "result.txt"));
}

#[test]
fn lint_results() {
    let mut results = LintResults::default();
    let source = |filename: &str, language: &str, data: &'static [u8]| SourceInfo {
        filename: filename.to_owned(),
        language: language.to_owned(),
        data: data.into(),
        definition: Some(Definition::default()),
    };
    let dockerfile = source(
        "Dockerfile",
        "Dockerfile",
        b"FROM alpine AS Base\nRUN a\nRUN b\nRUN c\nRUN <d>\nCMD x\nMAINTAINER y\n",
    );
    let first = results.add_source(dockerfile.clone());
    let second = results.add_source(source("A", "", b"\xff\nline"));
    assert_eq!(results.add_source(dockerfile), first);
    let mut add = |rule: &str, description: &str, url: &str, number, source_index, ranges: &[Range]| {
        results.add_warning(LintWarning {
            rule: rule.to_owned(),
            description: description.to_owned(),
            url: url.to_owned(),
            detail: format!("detail {number}"),
            location: Location { source_index, ranges: ranges.to_vec() },
        });
    };
    add("JSONArgsRecommended", "d", "https://x.y/z", "<1>", first, &[range(6, 6, 4)]);
    add("StageNameCasing", "d", "", "2", first, &[range(1, 1, 4)]);
    add("NoRange", "", "", "3", first, &[]);
    add("Anywhere", "", "u", "4", -1, &[]);
    add("Aaa", "", "u", "5", -1, &[range(2, 3, 4)]);
    add("OtherFile", "o", "u", "6", second, &[range(1, 2, 4)]);
    add("Many", "o", "u", "7", first, &[range(2, 3, 4), range(5, 5, 4)]);
    results.set_error(BuildError { message: "it <fails>".to_owned(), location: lines(first, &[3]) });
    let parts = recorded!("lint", "result.json", "result.statuscode", "result.txt");
    check(&results.to_answer(), "1.0.0", parts);

    let parts = recorded!("lint-empty", "result.json", "result.statuscode", "result.txt");
    check(&LintResults::default().to_answer(), "1.0.0", parts);
    let mut results = LintResults::default();
    results.set_error(BuildError { message: "m".to_owned(), ..BuildError::default() });
    let parts = recorded!("lint-error", "result.json", "result.statuscode", "result.txt");
    check(&results.to_answer(), "1.0.0", parts);
}

/// Every field of every operation and of what is said about them.
#[test]
fn graphs() {
    let definition = include_str!("vectors/convertllb.def").trim_end();
    let definition = base64::engine::general_purpose::STANDARD.decode(definition).expect("base64");
    let definition = Definition::decode(definition.as_slice()).expect("a definition");
    let graph = ConvertedGraph::new(&definition).expect("its operations decode");
    check(&graph.to_answer(), "0.1.0", recorded!("convertllb", "result.json"));

    let damaged = Definition { def: vec![vec![0x0a, 0x05].into()], ..Definition::default() };
    let error = ConvertedGraph::new(&damaged).expect_err("an operation is cut off");
    assert_eq!(error.to_string(), "Operation 0 of the graph cannot be decoded");
}
