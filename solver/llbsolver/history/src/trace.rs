//! Traces of builds, made of their progress.

use std::io::{self, Write};
use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;
use prost_types::Timestamp;
use serde::Serialize;

use crate::logs::{ProgressLog, Run, Step};

/// What is read of what happened within the daemon only.
const KIND_INTERNAL: u8 = 1;
const KIND_SERVER: u8 = 2;

/// The span of a client that a build belongs to (W3C Trace Context, `traceparent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header; nothing if it is none.
    pub fn parse(header: &str) -> Option<Self> {
        let parts: Vec<&str> = header.trim().split('-').collect();
        let [version, trace, span, flags, rest @ ..] = &parts[..] else { return None };
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        // Later versions may have more parts.
        let is_known =
            *version == "00" && rest.is_empty() || is_hex(version, 2) && !matches!(*version, "00" | "ff");
        if !is_known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return None;
        }
        let parent = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

/// What the span of the build is about.
pub(crate) struct BuildSpan<'a> {
    pub(crate) reference: &'a str,
    pub(crate) frontend: &'a str,
    pub(crate) parent: Option<TraceParent>,
    pub(crate) started: SystemTime,
    pub(crate) completed: SystemTime,
    /// Why it failed.
    pub(crate) error: Option<&'a str>,
}

/// A span as Go's SDK writes it (`tracetest.SpanStub`), which is what readers of these blobs know.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Span<'a> {
    name: &'a str,
    span_context: SpanContext,
    parent: SpanContext,
    span_kind: u8,
    start_time: String,
    end_time: String,
    attributes: Vec<Attribute<'a>>,
    events: Option<()>,
    links: Option<()>,
    status: Status<'a>,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
    child_span_count: usize,
    resource: Vec<Attribute<'static>>,
    instrumentation_library: Scope,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SpanContext {
    #[serde(rename = "TraceID")]
    trace_id: String,
    #[serde(rename = "SpanID")]
    span_id: String,
    trace_flags: String,
    trace_state: &'static str,
    remote: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(tag = "Type", content = "Value")]
enum Value<'a> {
    #[serde(rename = "STRING")]
    Text(&'a str),
    #[serde(rename = "BOOL")]
    Bool(bool),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status<'a> {
    code: &'static str,
    description: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Scope {
    name: &'static str,
    version: &'static str,
    #[serde(rename = "SchemaURL")]
    schema_url: &'static str,
}

impl<'a> Status<'a> {
    fn of(error: Option<&'a str>) -> Self {
        match error {
            Some(description) => Self { code: "Error", description },
            None => Self { code: "Unset", description: "" },
        }
    }
}

impl SpanContext {
    fn new(trace: u128, span: u64, flags: u8, remote: bool) -> Self {
        Self {
            trace_id: format!("{trace:032x}"),
            span_id: format!("{span:016x}"),
            trace_flags: format!("{flags:02x}"),
            trace_state: "",
            remote,
        }
    }
}

/// Writes the spans of a build: its own, then those of its steps in the order in which they ran.
pub(crate) fn write(out: &mut dyn Write, build: &BuildSpan<'_>, log: &ProgressLog) -> io::Result<()> {
    let sampled = 1;
    let trace = build.parent.map_or_else(random_trace, |parent| parent.trace);
    let root = random_span();
    let mut runs: Vec<(&Digest, &Step, &Run)> = log
        .steps
        .iter()
        .flat_map(|(digest, step)| step.runs.iter().map(move |run| (digest, step, run)))
        .collect();
    runs.sort_by(|a, b| (a.2.started, a.0.as_str()).cmp(&(b.2.started, b.0.as_str())));

    let parent = match build.parent {
        Some(parent) => SpanContext::new(parent.trace, parent.span, parent.flags, true),
        None => SpanContext::new(0, 0, 0, false),
    };
    let mut attributes = vec![Attribute { key: "ref", value: Value::Text(build.reference) }];
    if !build.frontend.is_empty() {
        attributes.push(Attribute { key: "frontend", value: Value::Text(build.frontend) });
    }
    write_span(
        out,
        &Span {
            name: "build",
            span_context: SpanContext::new(trace, root, sampled, false),
            parent,
            span_kind: KIND_SERVER,
            child_span_count: runs.len(),
            ..span(build.started, build.completed, attributes, Status::of(build.error))
        },
    )?;
    for (digest, step, run) in runs {
        let mut attributes = vec![Attribute { key: "vertex", value: Value::Text(digest.as_str()) }];
        if run.cached {
            attributes.push(Attribute { key: "cached", value: Value::Bool(true) });
        }
        // What did not end was given up with the build.
        let is_open = run.completed.is_none();
        let error = match run.error.as_str() {
            "" => is_open.then_some("context canceled"),
            error => Some(error),
        };
        let completed = run.completed.unwrap_or(build.completed).max(run.started);
        write_span(
            out,
            &Span {
                name: &step.name,
                span_context: SpanContext::new(trace, random_span(), sampled, false),
                parent: SpanContext::new(trace, root, sampled, false),
                ..span(run.started, completed, attributes, Status::of(error))
            },
        )?;
    }
    Ok(())
}

/// A span without a name and a place.
fn span<'a>(
    started: SystemTime,
    completed: SystemTime,
    attributes: Vec<Attribute<'a>>,
    status: Status<'a>,
) -> Span<'a> {
    Span {
        name: "",
        span_context: SpanContext::new(0, 0, 0, false),
        parent: SpanContext::new(0, 0, 0, false),
        span_kind: KIND_INTERNAL,
        start_time: time(started),
        end_time: time(completed),
        attributes,
        events: None,
        links: None,
        status,
        dropped_attributes: 0,
        dropped_events: 0,
        dropped_links: 0,
        child_span_count: 0,
        resource: vec![
            Attribute { key: "service.name", value: Value::Text("buildkitd") },
            Attribute { key: "service.version", value: Value::Text(buildkit_version::VERSION) },
        ],
        instrumentation_library: Scope {
            name: buildkit_version::PACKAGE,
            version: buildkit_version::VERSION,
            schema_url: "",
        },
    }
}

fn write_span(out: &mut dyn Write, span: &Span<'_>) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, span)?;
    out.write_all(b"\n")
}

fn time(time: SystemTime) -> String {
    Timestamp::from(time).to_string()
}

fn random_trace() -> u128 {
    rand::random::<u128>().max(1)
}

fn random_span() -> u64 {
    rand::random::<u64>().max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buildkit_util_progress::{SolveStatus, Vertex};

    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn parents() {
        let parent = TraceParent::parse(HEADER).expect("valid");
        assert_eq!((parent.span, parent.flags), (0xb7ad_6b71_6920_3331, 1));
        assert!(TraceParent::parse(&format!("01{}-more", &HEADER[2..])).is_some());
        for wrong in [
            "",
            "00",
            &HEADER[..54],
            &format!("{HEADER}-x"),
            &HEADER.to_uppercase(),
            &format!("ff{}", &HEADER[2..]),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_span_for_the_build_and_for_each_run_of_a_step() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds);
        let vertex = |name: &str, started, completed, error: &str| Vertex {
            digest: Digest::sha256(name),
            inputs: Vec::new(),
            name: name.to_owned(),
            started: Some(at(started)),
            completed: Option::map(completed, at),
            cached: name == "cached",
            error: error.to_owned(),
            progress_group: None,
        };
        let mut log = ProgressLog::default();
        log.add(SolveStatus {
            vertexes: vec![
                vertex("late", 8, None, ""),
                vertex("cached", 1, Some(1), ""),
                vertex("twice", 2, None, ""),
                vertex("twice", 2, Some(3), ""),
                vertex("twice", 5, Some(6), "it failed"),
            ],
            ..SolveStatus::default()
        });
        assert_eq!(log.counts(), (3, 1, 2));
        let build = BuildSpan {
            reference: "b1",
            frontend: "",
            parent: TraceParent::parse(HEADER),
            started: at(0),
            completed: at(9),
            error: Some("all failed"),
        };
        let mut out = Vec::new();
        write(&mut out, &build, &log).expect("writes");
        let spans: Vec<serde_json::Value> =
            serde_json::Deserializer::from_slice(&out).into_iter().collect::<Result<_, _>>().expect("JSON");
        let names: Vec<_> = spans.iter().map(|span| span["Name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["build", "cached", "twice", "twice", "late"]);
        let ends: Vec<_> = spans.iter().map(|span| span["EndTime"].as_str().expect("a time")).collect();
        assert_eq!(ends[0], "2001-09-09T01:46:49Z");
        assert_eq!(ends[4], ends[0], "what did not end ended with the build");
        let codes: Vec<_> = spans.iter().map(|span| span["Status"]["Code"].as_str().expect("text")).collect();
        assert_eq!(codes, ["Error", "Unset", "Unset", "Error", "Error"]);
        assert_eq!(spans[0]["Parent"]["SpanID"], "b7ad6b7169203331");
        assert_eq!(spans[0]["ChildSpanCount"], 4);
        for span in &spans[1..] {
            assert_eq!(span["Parent"]["SpanID"], spans[0]["SpanContext"]["SpanID"]);
            assert_eq!(span["SpanContext"]["TraceID"], "0af7651916cd43dd8448eb211c80319c");
        }
        assert_eq!(spans[1]["Attributes"][1]["Value"]["Value"], true);
    }
}
