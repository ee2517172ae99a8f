use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_solver_pb as llb;
use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::Object;
pub use buildkit_util_grpcerrors::Detail;
use prost::Message as _;
use serde_json::Value;

const VERTEX: &str = "errdefs.Vertex";
const SOURCE: &str = "errdefs.Source";
const SOLVE: &str = "errdefs.Solve";
const FRONTEND_CAP: &str = "errdefs.FrontendCap";
const SUBREQUEST: &str = "errdefs.Subrequest";
const COMPATIBILITY: &str = "errdefs.CompatibilityFeature";
const EXIT: &str = "gatewayapi.ExitMessage";

/// Most bytes of the places that one error names.
const MAX_SOURCES: usize = 4 << 20;

/// The part of a step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Index of the file action.
    File(i64),
    /// Index of the input whose content could not be hashed.
    Cache(i64),
}

/// A detail that is understood.
#[derive(Clone, Debug, PartialEq)]
pub enum ParsedDetail {
    /// Digest of the vertex that failed.
    Vertex(String),
    /// Where the failing step stands in a source file.
    Source {
        /// The file.
        info: llb::SourceInfo,
        /// The parts of it.
        ranges: Vec<llb::Range>,
    },
    /// Refs of the failed state.
    Solve {
        /// Refs of the inputs; empty texts are scratch.
        input_ids: Vec<String>,
        /// Refs of the mounts as they were when the step failed.
        mount_ids: Vec<String>,
        /// Which part of the step failed, if that is known.
        subject: Option<Subject>,
    },
    /// Exit code of the failing process.
    Exit(u32),
    /// A frontend that does not exist or lacks a capability.
    FrontendCap(String),
    /// A subrequest that the frontend does not know.
    Subrequest(String),
}

/// The vertex that failed.
pub fn vertex(digest: &Digest) -> Detail {
    object(VERTEX, |json| {
        json.omit_empty("digest", digest.as_str());
    })
}

/// Exit code of the process that failed.
pub fn exit(code: u32) -> Detail {
    object(EXIT, |json| {
        json.omit_empty("Code", &code);
    })
}

/// A capability that the frontend lacks.
pub fn frontend_cap(name: &str) -> Detail {
    object(FRONTEND_CAP, |json| {
        json.omit_empty("name", name);
    })
}

/// A subrequest that is not known.
pub fn subrequest(name: &str) -> Detail {
    object(SUBREQUEST, |json| {
        json.omit_empty("name", name);
    })
}

/// What a build cannot do that is to be as an old version would have made it.
pub fn compatibility_feature(version: i64, feature: &str) -> Detail {
    object(COMPATIBILITY, |json| {
        json.omit_empty("version", &version);
        json.omit_empty("feature", feature);
    })
}

/// Where the failing step stands in its source file.
pub fn source(info: &llb::SourceInfo, ranges: &[llb::Range]) -> Detail {
    object(SOURCE, |json| {
        json.field("info", info);
        if ranges.is_empty() {
            return;
        }
        json.array("ranges", |list| {
            for range in ranges {
                list.object(|json| {
                    for (name, position) in [("start", &range.start), ("end", &range.end)] {
                        if let Some(position) = position {
                            json.object(name, |json| {
                                json.omit_empty("line", &position.line);
                                json.omit_empty("character", &position.character);
                            });
                        }
                    }
                });
            }
        });
    })
}

/// [`source`] of several places, the first ones most wanted. Each carries its file, and all of them have to fit into the
/// headers of an answer: of many places the last ones are left out, and a large file is named without its content.
pub fn sources<'a>(places: impl IntoIterator<Item = (&'a llb::SourceInfo, &'a [llb::Range])>) -> Vec<Detail> {
    let mut details = Vec::new();
    let mut left = MAX_SOURCES;
    for (info, ranges) in places {
        // As base64, and a little for what is around it.
        let size = |info: &llb::SourceInfo| info.encoded_len() * 4 / 3 + 100 * ranges.len() + 200;
        let named = llb::SourceInfo {
            filename: info.filename.clone(),
            language: info.language.clone(),
            ..Default::default()
        };
        let info = if size(info) > MAX_SOURCES { &named } else { info };
        match left.checked_sub(size(info)) {
            Some(rest) => left = rest,
            None => break,
        }
        details.push(source(info, ranges));
    }
    details
}

/// The failed state: refs of inputs and mounts, the op as protobuf JSON when known, and what failed.
///
/// This message alone is protobuf's JSON mapping (64-bit numbers are strings), as upstream encodes it.
pub fn solve(
    input_ids: &[String],
    mount_ids: &[String],
    op_json: Option<&str>,
    subject: Option<Subject>,
    description: &BTreeMap<String, String>,
) -> Detail {
    let mut message = serde_json::Map::new();
    let list = |ids: &[String]| Value::Array(ids.iter().map(|id| Value::String(id.clone())).collect());
    if !input_ids.is_empty() {
        message.insert("inputIDs".to_owned(), list(input_ids));
    }
    if !mount_ids.is_empty() {
        message.insert("mountIDs".to_owned(), list(mount_ids));
    }
    if let Some(op) = op_json.and_then(|json| serde_json::from_str(json).ok()) {
        message.insert("op".to_owned(), op);
    }
    if let Some(subject) = subject {
        let (name, index) = match subject {
            Subject::File(index) => ("file", index),
            Subject::Cache(index) => ("cache", index),
        };
        let mut value = serde_json::Map::new();
        if index != 0 {
            value.insert("index".to_owned(), Value::String(index.to_string()));
        }
        message.insert(name.to_owned(), Value::Object(value));
    }
    if !description.is_empty() {
        let entries = description.iter().map(|(key, value)| (key.clone(), Value::String(value.clone())));
        message.insert("description".to_owned(), Value::Object(entries.collect()));
    }
    Detail::json(SOLVE, Value::Object(message).to_string())
}

/// Reads a detail; `None` when it is of a type that is not known here, or damaged.
pub fn parse(detail: &Detail) -> Option<ParsedDetail> {
    let name = detail.json_name()?;
    let json: Value = serde_json::from_slice(&detail.value).ok()?;
    let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |key: &str| {
        let items = json.get(key).and_then(Value::as_array);
        items.map_or_else(Vec::new, |items| {
            items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
        })
    };
    Some(match name {
        VERTEX => ParsedDetail::Vertex(text("digest")),
        EXIT => ParsedDetail::Exit(
            json.get("Code").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok()).unwrap_or(0),
        ),
        FRONTEND_CAP => ParsedDetail::FrontendCap(text("name")),
        SUBREQUEST => ParsedDetail::Subrequest(text("name")),
        SOLVE => ParsedDetail::Solve {
            input_ids: texts("inputIDs"),
            mount_ids: texts("mountIDs"),
            subject: parse_subject(&json),
        },
        SOURCE => parse_source(&json),
        _ => return None,
    })
}

/// The part of a step that failed. An index of zero is left out in JSON.
fn parse_subject(json: &Value) -> Option<Subject> {
    let index = |value: &Value| match value.get("index") {
        None => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_i64(),
    };
    let file = json.get("file").and_then(index).map(Subject::File);
    file.or_else(|| json.get("cache").and_then(index).map(Subject::Cache))
}

fn parse_source(json: &Value) -> ParsedDetail {
    let info = json.get("info").unwrap_or(&Value::Null);
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default();
    let position = |range: &Value, key: &str| {
        range.get(key).map(|position| {
            let number = |key: &str| {
                position.get(key).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
            };
            llb::Position { line: number("line"), character: number("character") }
        })
    };
    let ranges = json.get("ranges").and_then(Value::as_array);
    ParsedDetail::Source {
        info: llb::SourceInfo {
            filename: text("filename").to_owned(),
            data: STANDARD.decode(text("data")).unwrap_or_default().into(),
            definition: None,
            language: text("language").to_owned(),
        },
        ranges: ranges.map_or_else(Vec::new, |ranges| {
            ranges
                .iter()
                .map(|range| llb::Range { start: position(range, "start"), end: position(range, "end") })
                .collect()
        }),
    }
}

fn object(name: &str, fill: impl FnOnce(&mut Object<'_>)) -> Detail {
    let mut json = String::new();
    fill(&mut Object::new(&mut json));
    Detail::json(name, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_gos_json() {
        let digest = Digest::sha256(b"x");
        assert_eq!(vertex(&digest).value, format!(r#"{{"digest":"{digest}"}}"#));
        assert_eq!(parse(&vertex(&digest)), Some(ParsedDetail::Vertex(digest.to_string())));
        assert_eq!(&exit(7).value[..], br#"{"Code":7}"#);
        let info = llb::SourceInfo {
            filename: "Dockerfile".to_owned(),
            data: "FROM <x>".into(),
            ..llb::SourceInfo::default()
        };
        let ranges = [llb::Range {
            start: Some(llb::Position { line: 3, character: 0 }),
            end: Some(llb::Position { line: 4, character: 2 }),
        }];
        let detail = source(&info, &ranges);
        assert_eq!(
            std::str::from_utf8(&detail.value),
            Ok(concat!(
                r#"{"info":{"filename":"Dockerfile","data":"RlJPTSA8eD4="},"#,
                r#""ranges":[{"start":{"line":3},"end":{"line":4,"character":2}}]}"#
            ))
        );
        assert_eq!(parse(&detail), Some(ParsedDetail::Source { info, ranges: ranges.to_vec() }));
        let detail = solve(&["a".to_owned()], &[], None, Some(Subject::File(2)), &BTreeMap::new());
        assert_eq!(&detail.value[..], br#"{"file":{"index":"2"},"inputIDs":["a"]}"#);
        for subject in [None, Some(Subject::File(2)), Some(Subject::Cache(0)), Some(Subject::Cache(3))] {
            let detail = solve(&[], &["m".to_owned()], None, subject, &BTreeMap::new());
            let parsed =
                ParsedDetail::Solve { input_ids: Vec::new(), mount_ids: vec!["m".to_owned()], subject };
            assert_eq!(parse(&detail), Some(parsed));
        }
    }
    /// Headers of an answer hold no more.
    #[test]
    fn a4_04_places_of_errors_are_bounded() {
        let info = |bytes: usize| llb::SourceInfo {
            filename: "Dockerfile".to_owned(),
            data: vec![b'#'; bytes].into(),
            ..llb::SourceInfo::default()
        };
        let named = |detail: &Detail| match parse(detail) {
            Some(ParsedDetail::Source { info, ranges }) => (info.filename, info.data.len(), ranges.len()),
            other => panic!("{other:?}"),
        };
        let ranges = vec![llb::Range::default(); 2];
        let of = |info: &llb::SourceInfo, count| sources(std::iter::repeat_n((info, &ranges[..]), count));
        assert_eq!(of(&info(100), 3), vec![source(&info(100), &ranges); 3]);
        let details = of(&info(1 << 20), 10_000);
        assert_eq!(details.len(), 2);
        assert!(details.iter().map(|detail| detail.value.len()).sum::<usize>() <= MAX_SOURCES);
        let details = of(&info(8 << 20), 2);
        assert_eq!(details.iter().map(named).collect::<Vec<_>>(), vec![("Dockerfile".to_owned(), 0, 2); 2]);
        let endless = vec![llb::Range::default(); 1 << 20];
        assert!(sources([(&info(1), &endless[..])]).is_empty());
    }
}
