use std::collections::HashMap;

use serde_json::Value;

use crate::{DirectiveKind, DirectiveParser, Position, Range};

/// What a file says of its frontend, or of another directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The value up to the first blank: the image.
    pub value: String,
    /// The whole value: the image and its arguments.
    pub command_line: String,
    /// Where it says so.
    pub ranges: Vec<Range>,
}

/// The image of the frontend that `data` wants to be read by.
///
/// The file need not be a Dockerfile: beside `# syntax=`, this finds `// syntax=` and, in a JSON object,
/// `"syntax"`. A byte order mark and a line `#!…` before them are skipped.
pub fn detect_syntax(data: &[u8]) -> Option<Detected> {
    let text = String::from_utf8_lossy(data);
    let (text, skipped) = skip_preamble(&text);
    comment(DirectiveKind::Syntax, text, DirectiveParser::behind(skipped, "#"))
        .or_else(|| comment(DirectiveKind::Syntax, text, DirectiveParser::behind(skipped, "//")))
        .or_else(|| json(DirectiveKind::Syntax, text, skipped))
}

/// The value of a directive of a Dockerfile.
pub fn parse_directive(kind: DirectiveKind, data: &[u8]) -> Option<Detected> {
    let text = String::from_utf8_lossy(data);
    let (text, skipped) = skip_preamble(&text);
    comment(kind, text, DirectiveParser::behind(skipped, "#"))
}

/// The text behind a byte order mark and a `#!` line, and how many lines that are.
fn skip_preamble(text: &str) -> (&str, u32) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.starts_with("#!") {
        return (text, 0);
    }
    (text.split_once('\n').map_or("", |(_, rest)| rest), 1)
}

fn comment(kind: DirectiveKind, text: &str, parser: DirectiveParser) -> Option<Detected> {
    let directive = parser.parse_all(text).into_iter().find(|directive| directive.kind == kind)?;
    let value = directive.value.split(' ').next().unwrap_or_default().to_owned();
    Some(Detected { value, command_line: directive.value, ranges: vec![directive.range] })
}

fn json(kind: DirectiveKind, text: &str, line: u32) -> Option<Detected> {
    let mut object: HashMap<String, Value> = serde_json::from_str(text).ok()?;
    let Value::String(value) = object.remove(kind.as_str())? else { return None };
    // JSON has no lines of its own: the range is the last line before it.
    let at = Position { line, character: 0 };
    let ranges = vec![Range { start: at, end: at }];
    Some(Detected { command_line: value.clone(), value, ranges })
}
