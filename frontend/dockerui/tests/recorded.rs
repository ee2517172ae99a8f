//! What is asked of the daemon, in which order, and what comes of it is what the original asks and makes: it wrote
//! `recorded.jsonl`, a line for each of our scenarios. Graphs are told apart by the digests of their operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_client_llb::{Constrained, MarshalOptions, State};
use buildkit_errdefs::Kind;
use buildkit_exporter_containerimage_exptypes::platform_id;
use buildkit_frontend_dockerui::{ContextRequest, DockerUi};
use buildkit_frontend_gateway_client::{
    BuildOpts, GatewayClient, GatewayRef, GatewayResult, ImageConfig, ImageConfigError, MetaRequest,
    MetaResponse, ReadDir, ReadFile, RemoteError, SolveRequest, Stat, Warning,
};
use buildkit_solver_pb::{self as pb, Definition, SourceOp, map};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{Platform, to_json};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"WorkingDir":"/w"},"created":"2020-01-01T00:00:00Z"}"#;

#[derive(Deserialize)]
struct Scenario {
    name: String,
    opts: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    calls: Vec<String>,
    inputs: bool,
    fail: Vec<String>,
    events: Vec<Value>,
}

/// A daemon that writes down what it is asked.
struct Recorder {
    scenario: Scenario,
    inputs: BTreeMap<String, Definition>,
    opts: BuildOpts,
    events: Arc<Mutex<Vec<Value>>>,
}

struct RecorderRef {
    files: BTreeMap<String, String>,
    fails_on_ignore_files: bool,
    events: Arc<Mutex<Vec<Value>>>,
}

fn failed() -> RemoteError {
    RemoteError::new(Kind::Internal, "it failed")
}

fn short(digest: &str) -> String {
    digest.chars().skip("sha256:".len()).take(12).collect()
}

/// The digests of a graph's operations, and of each its name and the capabilities that it needs.
fn describe(definition: &Definition) -> Value {
    let ops: Vec<String> = definition.def.iter().map(|op| short(Digest::sha256(op).as_str())).collect();
    let metadata: BTreeMap<String, Value> = map::to_map(definition.metadata.iter().cloned())
        .into_iter()
        .map(|(digest, metadata)| {
            let name = map::get(&metadata.description, "llb.customname").unwrap_or_default();
            let caps: Vec<String> = map::to_map(metadata.caps).into_keys().collect();
            (short(&digest), json!([name, caps.join(" ")]))
        })
        .collect();
    json!([ops.join(" "), metadata])
}

#[async_trait]
impl GatewayRef for RecorderRef {
    fn id(&self) -> &str {
        "ref"
    }

    fn definition(&self) -> Option<Arc<Definition>> {
        None
    }

    async fn evaluate(&self) -> Result<(), RemoteError> {
        Ok(())
    }

    async fn read_file(&self, file: ReadFile) -> Result<Bytes, RemoteError> {
        let length = file.range.map_or(-1, |range| i64::try_from(range.length).expect("small"));
        self.events.lock().push(json!(["read", file.path, length]));
        if self.fails_on_ignore_files && file.path.ends_with(".dockerignore") {
            return Err(failed());
        }
        let missing =
            || RemoteError::new(Kind::NotFound, format!("open {}: no such file or directory", file.path));
        self.files.get(&file.path).map(|content| content.clone().into()).ok_or_else(missing)
    }

    async fn read_dir(&self, _: ReadDir) -> Result<Vec<Stat>, RemoteError> {
        Err(failed())
    }

    async fn stat_file(&self, _: &str) -> Result<Stat, RemoteError> {
        Err(failed())
    }
}

#[async_trait]
impl GatewayClient for Recorder {
    fn build_opts(&self) -> &BuildOpts {
        &self.opts
    }

    async fn solve(&self, request: SolveRequest) -> Result<GatewayResult, RemoteError> {
        let definition = request.definition.unwrap_or_default();
        self.events.lock().push(json!(["solve", request.evaluate, describe(&definition)]));
        let fails = |what: &str| self.scenario.fail.iter().any(|fails| fails == what);
        if fails("solve") || (request.evaluate && fails("evaluate")) {
            return Err(failed());
        }
        let tree: Arc<dyn GatewayRef> = Arc::new(RecorderRef {
            files: self.scenario.files.clone(),
            fails_on_ignore_files: fails("ignore"),
            events: self.events.clone(),
        });
        Ok(GatewayResult::single(Some(tree)))
    }

    async fn resolve_image_config(
        &self,
        image: &str,
        request: MetaRequest,
    ) -> Result<ImageConfig, ImageConfigError> {
        let MetaRequest { log_name, platform, resolve_mode, layout, .. } = request;
        let platform = platform.map_or(String::new(), |platform| platform_id(&platform));
        let layout = layout.unwrap_or_default();
        let store = (layout.session_id, layout.store_id);
        self.events.lock().push(json!(["config", image, log_name, platform, resolve_mode, store.0, store.1]));
        Ok(ImageConfig {
            reference: format!("{image}@sha256:{}", "cd".repeat(32)),
            digest: Digest::sha256(b"x"),
            config: CONFIG.into(),
        })
    }

    async fn resolve_source_meta(
        &self,
        _: SourceOp,
        _: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        Err(failed())
    }

    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError> {
        self.events.lock().push(json!(["inputs"]));
        Ok(if self.scenario.inputs { self.inputs.clone() } else { BTreeMap::new() })
    }

    async fn warn(&self, _: Warning) -> Result<(), RemoteError> {
        Err(failed())
    }
}

/// The graph of a state, for a platform or for this machine's.
fn written(state: &State, platform: Option<&Platform>) -> Value {
    let options = match platform {
        None => MarshalOptions::new(),
        Some(platform) => MarshalOptions::new().platform(pb::Platform {
            variant: platform.variant.clone(),
            ..pb::Platform::new(&platform.os, &platform.architecture)
        }),
    };
    describe(&state.marshal(&options).expect("a graph"))
}

async fn named(ui: &DockerUi, argument: &str) -> Result<Value, RemoteError> {
    let (name, rest) = argument.split_once('@').unwrap_or((argument, ""));
    let (platform, files) = rest.split_once(':').unwrap_or((rest, ""));
    let platform: Option<Platform> = (!platform.is_empty()).then(|| platform.parse().expect("a platform"));
    let request = ContextRequest {
        platform: platform.clone(),
        resolve_mode: "pull".to_owned(),
        ..ContextRequest::default()
    };
    let Some(context) = ui.named_context(name, request)? else { return Ok(json!(["nothing"])) };
    let tree = context.load().await?;
    if let Some(directory) = tree.directory {
        directory.decide(|local| if files.is_empty() { local } else { local.follow(files.split(',')) });
    }
    let image = tree
        .image
        .as_ref()
        .map_or(String::new(), |image| String::from_utf8(to_json(image)).expect("JSON is UTF-8"));
    let env: Vec<String> =
        tree.state.get_envs().iter().map(|(key, value)| format!("{key}={value}")).collect();
    Ok(json!([
        "state",
        written(&tree.state, platform.as_ref()),
        image,
        tree.digest.map_or(String::new(), |digest| digest.to_string()),
        tree.state.get_dir(),
        env.join(" "),
    ]))
}

async fn call(ui: &DockerUi, call: &str) -> Result<Value, RemoteError> {
    let (name, argument) = call.split_once(':').unwrap_or((call, ""));
    match name {
        "entry" => {
            let entry = ui.read_entrypoint("Dockerfile").await?;
            let info = entry.info.clone();
            let graph = describe(&info.definition.expect("the graph that it was read from"));
            let data = String::from_utf8(info.data.to_vec()).expect("UTF-8");
            Ok(json!(["source", info.filename, info.language, data, graph]))
        }
        "main" => {
            let files = |local: buildkit_client_llb::Local| match argument {
                "" => local,
                files => local.follow(files.split(',')),
            };
            Ok(json!(["state", written(&ui.main_context(files).await?, None)]))
        }
        "ignored" => Ok(json!(["ignored", ui.ignored_patterns().await?.join(" ")])),
        "named" => named(ui, argument).await,
        other => panic!("no such call: {other}"),
    }
}

async fn play(scenario: Scenario, inputs: BTreeMap<String, Definition>) -> Vec<Value> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let opts = BuildOpts {
        opts: scenario.opts.clone(),
        session_id: "sess-0".to_owned(),
        workers: Vec::new(),
        product: String::new(),
        llb_caps: pb::caps::list().cap_set(pb::caps::list().all()),
        caps: buildkit_frontend_gateway_pb::caps::list()
            .cap_set(buildkit_frontend_gateway_pb::caps::list().all()),
    };
    let calls = scenario.calls.clone();
    let ui = DockerUi::new(Arc::new(Recorder { scenario, inputs, opts, events: events.clone() }));
    let ui = ui.expect("options");
    for text in calls {
        events.lock().push(json!(["call", text]));
        let outcome = call(&ui, &text).await.unwrap_or_else(|error| json!(["error", error.message]));
        events.lock().push(outcome);
    }
    let events = events.lock();
    events.clone()
}

#[tokio::test]
async fn files_are_found_as_the_original_finds_them() {
    let mut lines = include_str!("recorded.jsonl").lines();
    let inputs: BTreeMap<String, String> =
        serde_json::from_str(lines.next().expect("inputs")).expect("definitions");
    let inputs: BTreeMap<String, Definition> = inputs
        .into_iter()
        .map(|(name, definition)| {
            let definition = STANDARD.decode(definition).expect("base64");
            (name, Definition::decode(definition.as_slice()).expect("a definition"))
        })
        .collect();
    let mut different = Vec::new();
    for line in lines {
        let mut scenario: Scenario = serde_json::from_str(line).expect("a scenario");
        let (name, recorded) = (scenario.name.clone(), std::mem::take(&mut scenario.events));
        let ours = play(scenario, inputs.clone()).await;
        if ours != recorded {
            let at = ours
                .iter()
                .zip(&recorded)
                .position(|(a, b)| a != b)
                .unwrap_or(ours.len().min(recorded.len()));
            let show = |events: &[Value]| events.get(at).map_or("nothing".to_owned(), Value::to_string);
            different.push(format!("{name}:\n  ours     {}\n  original {}", show(&ours), show(&recorded)));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
