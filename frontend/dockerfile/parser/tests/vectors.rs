//! Files and what the Go implementation makes of them; see the README beside the vectors.

use buildkit_frontend_dockerfile_parser::{
    Ast, Detected, DirectiveKind, Error, Node, Range, detect_syntax, parse, parse_directive,
};
use serde_json::{Value, json};

/// What is recorded of a file, as this implementation makes it.
fn record(file: &str) -> Value {
    let mut out = json!({ "file": file });
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[name] = value;
        }
    };
    add("syntax", detect_syntax(file.as_bytes()).map(detected));
    add("check", parse_directive(DirectiveKind::Check, file.as_bytes()).map(detected));
    match parse(file.as_bytes()) {
        Ok(ast) => {
            add("dump", Some(json!(ast.to_string())));
            add("escape", Some(json!(ast.escape_token)));
            add("warnings", (!ast.warnings.is_empty()).then(|| warnings(&ast)));
            add("nodes", Some(ast.nodes.iter().map(node).collect()));
        }
        Err(error) => {
            add("error", Some(json!(error.to_string())));
            // Of directives the Go implementation names the line before theirs.
            let is_of_directive =
                matches!(error.error, Error::InvalidEscapeToken(_) | Error::DuplicateDirective(_));
            let before = u32::from(is_of_directive);
            add("locations", Some(error.locations.iter().map(|ranges| lines(ranges, before)).collect()));
        }
    }
    out
}

fn detected(detected: Detected) -> Value {
    json!([detected.value, detected.command_line, lines(&detected.ranges, 0)])
}

/// Their lines, each that many `before` its own.
fn lines(ranges: &[Range], before: u32) -> Value {
    assert!(ranges.iter().all(|range| range.start == range.end && range.start.character == 0));
    ranges.iter().map(|range| range.start.line - before).collect()
}

fn warnings(ast: &Ast) -> Value {
    ast.warnings.iter().map(|warning| json!([warning.short, warning.range.start.line])).collect()
}

fn node(node: &Node) -> Value {
    let mut out = json!({ "original": node.original, "lines": [node.start_line, node.end_line] });
    if node.json {
        out["json"] = json!(true);
    }
    if !node.comments.is_empty() {
        out["comments"] = json!(node.comments);
    }
    if !node.heredocs.is_empty() {
        let heredoc = |it: &buildkit_frontend_dockerfile_parser::Heredoc| {
            json!({ "name": it.name, "fd": it.file_descriptor, "expand": it.expand, "chomp": it.chomp,
                "content": it.content })
        };
        out["heredocs"] = node.heredocs.iter().map(heredoc).collect();
    }
    out
}

#[test]
fn files_are_read_as_recorded() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("vectors/files.json")).expect("the vectors are well formed");
    assert!(vectors.len() > 80, "only {} vectors", vectors.len());
    let mut wrong = Vec::new();
    for expected in &vectors {
        let is = record(expected["file"].as_str().expect("each has its file"));
        if is != *expected {
            wrong.push(format!("made     {is}\nrecorded {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}
