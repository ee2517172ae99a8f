//! The frontend makes of each Dockerfile in `corpus` what the original makes of it: the same graphs, digest for
//! digest, the same names and lines of steps, the same images, warnings and errors.
//!
//! `NAME.Dockerfile` is built with the options that `options.json` has for `NAME` and for every `NAME@VARIANT`.
//! What the original made of it is in `NAME.expected.json`, recorded with a bridge like [`fake`].

use std::collections::BTreeMap;
use std::path::Path;

use crate::fake::{FakeClient, Given};
use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::{BuildFunction as _, RemoteError, SolveRequest};
use buildkit_solver_errdefs::ParsedDetail;
use buildkit_solver_pb::{self as pb, Definition, map};
use buildkit_util_cachedigest::Digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

#[derive(Clone, Default, Deserialize)]
struct Options {
    #[serde(default)]
    opts: BTreeMap<String, String>,
    #[serde(default)]
    dockerignore: String,
    #[serde(default)]
    caps_off: Vec<String>,
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = Path::new(CORPUS).join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Ranges as `[first line, character, last line, character]`.
fn ranges(ranges: &[pb::Range]) -> Value {
    let number = |position: Option<pb::Position>| position.map_or((0, 0), |at| (at.line, at.character));
    let all = ranges.iter().map(|range| {
        let ((a, b), (c, d)) = (number(range.start), number(range.end));
        json!([a, b, c, d])
    });
    all.collect()
}

fn insert(object: &mut Map<String, Value>, key: &str, value: Value) {
    let is_empty = match &value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    };
    if !is_empty {
        object.insert(key.to_owned(), value);
    }
}

fn ops(definition: &Definition) -> Value {
    let metadata = map::to_map(definition.metadata.iter().cloned());
    let source = definition.source.clone().unwrap_or_default();
    let locations = map::to_map(source.locations);
    let ops = definition.def.iter().map(|op| {
        let digest = Digest::sha256(op).as_str().to_owned();
        let mut out = Map::new();
        if let Some(metadata) = metadata.get(&digest) {
            insert(&mut out, "description", json!(map::to_map(metadata.description.iter().cloned())));
            let caps: Vec<String> = map::to_map(metadata.caps.iter().cloned()).into_keys().collect();
            insert(&mut out, "caps", json!(caps));
            insert(&mut out, "ignore_cache", json!(metadata.ignore_cache));
            if let Some(group) = &metadata.progress_group {
                insert(&mut out, "group", json!(group.name));
                insert(&mut out, "weak", json!(group.weak));
            }
            if let Some(limits) = &metadata.linux_resources {
                insert(&mut out, "resources", resources(limits));
            }
        }
        let all = locations.get(&digest).map(|all| &all.locations[..]).unwrap_or_default();
        insert(&mut out, "locations", all.iter().map(|location| ranges(&location.ranges)).collect());
        out.insert("digest".to_owned(), digest.into());
        Value::Object(out)
    });
    ops.collect()
}

/// The limits in protobuf's JSON, as text.
fn resources(limits: &pb::LinuxResources) -> Value {
    let mut out = Map::new();
    for (key, value) in [
        ("memory", limits.memory.to_string()),
        ("memorySwap", limits.memory_swap.to_string()),
        ("cpuShares", limits.cpu_shares.to_string()),
        ("cpuPeriod", limits.cpu_period.to_string()),
        ("cpuQuota", limits.cpu_quota.to_string()),
        ("cpusetCpus", limits.cpuset_cpus.clone()),
        ("cpusetMems", limits.cpuset_mems.clone()),
    ] {
        if value != "0" || key.starts_with("cpuset") {
            insert(&mut out, key, json!(value));
        }
    }
    Value::String(Value::Object(out).to_string())
}

fn solve(request: &SolveRequest) -> Value {
    let mut out = Map::new();
    if let Some(definition) = &request.definition {
        insert(&mut out, "ops", ops(definition));
    }
    insert(&mut out, "frontend", json!(request.frontend));
    insert(&mut out, "opts", json!(request.frontend_opt));
    let cache = request.cache_imports.iter().map(|cache| json!({"Type": cache.kind, "Attrs": cache.attrs}));
    insert(&mut out, "cache", cache.collect());
    Value::Object(out)
}

/// The lines of files that an error is about.
fn sources(error: &RemoteError) -> Value {
    let sources = error.details.iter().filter_map(|detail| match buildkit_solver_errdefs::parse(detail) {
        Some(ParsedDetail::Source { ranges: lines, .. }) => Some(ranges(&lines)),
        _ => None,
    });
    sources.collect()
}

/// Lists without order in an order; lines that are told twice, or are none, once or not at all.
fn normalized(mut value: Value) -> Value {
    let object = value.as_object_mut().expect("an object");
    for key in ["solves", "warnings", "resolved", "sources"] {
        if let Some(Value::Array(list)) = object.get_mut(key) {
            let last =
                |entry: &Value| entry["ops"].as_array().and_then(|ops| ops.last()).map(Value::to_string);
            list.sort_by_key(|entry| (last(entry), entry.to_string()));
            if key == "sources" {
                list.dedup();
                list.retain(|entry| entry.as_array().is_some_and(|ranges| !ranges.is_empty()));
            }
        }
    }
    if let Some(Value::String(graph)) = object.get_mut("metadata").and_then(|it| it.get_mut("result.json")) {
        *graph = serde_json::from_str::<Value>(graph).map_or_else(|_| graph.clone(), |it| it.to_string());
    }
    if object.contains_key("error") {
        // Images are asked for side by side, and the first error ends the others.
        object.remove("resolved");
    }
    object.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    value
}

async fn build(dockerfile: Vec<u8>, options: Options) -> Value {
    let client = FakeClient::new(Given {
        dockerfile: dockerfile.into(),
        ignore_file: options.dockerignore,
        opts: options.opts,
        caps_off: options.caps_off,
        images: read("images.json"),
        ..Given::default()
    });
    let result = DockerfileFrontend.build(client.clone()).await;
    let mut out = Map::new();
    match &result {
        Ok(result) => {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let metadata: BTreeMap<&String, String> =
                result.metadata.iter().map(|(key, value)| (key, text(value))).collect();
            out.insert("metadata".to_owned(), json!(metadata));
        }
        Err(error) => {
            // Hints are our own.
            out.insert("error".to_owned(), json!(error.message.lines().next()));
            out.insert("sources".to_owned(), sources(error));
        }
    }
    let asked = client.asked.lock();
    out.insert("solves".to_owned(), asked.solves.iter().map(solve).collect());
    out.insert("resolved".to_owned(), json!(asked.images));
    let warnings = asked.warnings.iter().map(|warning| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let detail: Vec<String> = warning.detail.iter().map(|line| text(line)).collect();
        let ranges: Vec<Value> = warning
            .ranges
            .iter()
            .map(|range| {
                json!([range.start.line, range.start.character, range.end.line, range.end.character])
            })
            .collect();
        json!({
            "vertex": warning.vertex.as_str(), "level": warning.level, "message": text(&warning.short),
            "detail": detail, "url": warning.url, "ranges": ranges,
        })
    });
    out.insert("warnings".to_owned(), warnings.collect());
    normalized(Value::Object(out))
}

/// Where two values differ, a line for each place.
fn differences(path: &str, got: &Value, want: &Value, out: &mut Vec<String>) {
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let none = Value::Null;
                differences(
                    &format!("{path}.{key}"),
                    a.get(key).unwrap_or(&none),
                    b.get(key).unwrap_or(&none),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}\n   got: {a}\n  want: {b}")),
    }
}

#[tokio::test]
async fn the_original_makes_the_same_of_each_dockerfile() {
    let options: BTreeMap<String, Options> = read("options.json");
    let mut names: Vec<String> = options.keys().cloned().collect();
    let files = std::fs::read_dir(CORPUS).expect("the corpus").filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".Dockerfile").map(str::to_owned)
    });
    names.extend(files);
    names.sort();
    names.dedup();
    let only = std::env::var("CORPUS_ONLY").ok();
    let mut wrong = Vec::new();
    let mut count = 0;
    for name in names.iter().filter(|name| only.as_ref().is_none_or(|only| name.as_str() == only)) {
        let file = name.split('@').next().unwrap_or(name);
        let dockerfile =
            std::fs::read(Path::new(CORPUS).join(format!("{file}.Dockerfile"))).expect("a Dockerfile");
        let mut got = build(dockerfile, options.get(name).cloned().unwrap_or_default()).await;
        let want = normalized(read(&format!("{name}.expected.json")));
        if let (Some(got), None) = (got.as_object_mut(), want.get("sources")) {
            // Some errors have no place there, and one here.
            got.remove("sources");
        }
        let mut places = Vec::new();
        differences("", &got, &want, &mut places);
        count += 1;
        if !places.is_empty() {
            wrong.push(format!("{name}:\n{}", places.join("\n")));
        }
    }
    assert!(count > 0, "no Dockerfile was built");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}
