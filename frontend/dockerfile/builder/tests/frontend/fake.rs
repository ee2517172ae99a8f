//! A bridge that builds nothing: it has one Dockerfile, an ignore file and the configurations of some images, and
//! writes down what it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{
    BuildOpts, FileRange, GatewayClient, GatewayRef, GatewayResult, ImageConfig, ImageConfigError,
    MetaRequest, MetaResponse, ReadDir, ReadFile, RemoteError, SolveRequest, Stat, Warning, WorkerInfo,
};
use buildkit_solver_pb::{Definition, SourceOp, caps};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Platform;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

/// What a build has.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) dockerfile: Bytes,
    pub(crate) ignore_file: String,
    pub(crate) opts: BTreeMap<String, String>,
    /// Capabilities that the daemon lacks.
    pub(crate) caps_off: Vec<String>,
    /// Configurations by reference.
    pub(crate) images: BTreeMap<String, Value>,
    /// Graphs that the user gave.
    pub(crate) inputs: BTreeMap<String, Definition>,
    /// What is known of any source.
    pub(crate) meta: Option<MetaResponse>,
    /// More files that any tree has.
    pub(crate) files: BTreeMap<String, Bytes>,
    /// What a directory comes with whose attributes are asked for.
    pub(crate) listing: Vec<u8>,
    pub(crate) answers: Answers,
}

/// How questions are answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Answers {
    #[default]
    Right,
    /// With an error.
    Errors,
    /// Not at all.
    Never,
    /// With what nobody can read.
    Garbage,
}

/// What was asked.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) solves: Vec<SolveRequest>,
    pub(crate) images: Vec<String>,
    pub(crate) sources: Vec<(SourceOp, MetaRequest)>,
    pub(crate) warnings: Vec<Warning>,
}

pub(crate) struct FakeClient {
    opts: BuildOpts,
    images: BTreeMap<String, Value>,
    meta: Option<MetaResponse>,
    inputs: BTreeMap<String, Definition>,
    files: Arc<BTreeMap<String, Bytes>>,
    answers: Answers,
    pub(crate) asked: Mutex<Asked>,
}

impl FakeClient {
    pub(crate) fn new(given: Given) -> Arc<Self> {
        let llb_caps = caps::list();
        let on = llb_caps.all().into_iter().filter(|cap| !given.caps_off.contains(&cap.id));
        let frontend_caps = buildkit_frontend_gateway_pb::caps::list();
        let mut files = given.files;
        files.insert("Dockerfile".to_owned(), given.dockerfile);
        if !given.ignore_file.is_empty() {
            files.insert(".dockerignore".to_owned(), given.ignore_file.into());
        }
        let listing = match given.answers {
            Answers::Garbage => vec![0xff; 100],
            _ => given.listing,
        };
        files.insert(".fsutil-metadata".to_owned(), listing.into());
        Arc::new(Self {
            answers: given.answers,
            opts: BuildOpts {
                opts: given.opts,
                session_id: "session".to_owned(),
                workers: vec![WorkerInfo {
                    id: "w".to_owned(),
                    labels: BTreeMap::new(),
                    platforms: vec![Platform::new("linux", "amd64")],
                }],
                product: "buildkit".to_owned(),
                llb_caps: llb_caps.cap_set(on),
                caps: frontend_caps.cap_set(frontend_caps.all()),
            },
            images: given.images,
            meta: given.meta,
            inputs: given.inputs,
            files: Arc::new(files),
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl GatewayClient for FakeClient {
    fn build_opts(&self) -> &BuildOpts {
        &self.opts
    }

    async fn solve(&self, request: SolveRequest) -> Result<GatewayResult, RemoteError> {
        match self.answers {
            Answers::Errors => return Err(RemoteError::new(Kind::Unavailable, "nobody answers")),
            Answers::Never => std::future::pending().await,
            Answers::Right | Answers::Garbage => {}
        }
        let definition = request.definition.clone().map(Arc::new);
        self.asked.lock().solves.push(request);
        let tree: Arc<dyn GatewayRef> = Arc::new(FakeRef { definition, files: self.files.clone() });
        Ok(GatewayResult::single(Some(tree)))
    }

    async fn resolve_image_config(
        &self,
        image: &str,
        request: MetaRequest,
    ) -> Result<ImageConfig, ImageConfigError> {
        let platform = match (&request.platform, &request.layout) {
            (Some(it), None) => format!("{}/{}/{}", it.os, it.architecture, it.variant),
            _ => "-".to_owned(),
        };
        let asked = [image, &platform, &request.resolve_mode, &request.log_name].join("|");
        self.asked.lock().images.push(asked);
        let config = self.images.get(image);
        let config = config.ok_or_else(|| RemoteError::new(Kind::NotFound, format!("{image}: not found")))?;
        Ok(ImageConfig {
            reference: image.to_owned(),
            digest: Digest::sha256(image.as_bytes()),
            config: serde_json::to_vec(config).unwrap_or_default().into(),
        })
    }

    async fn resolve_source_meta(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        self.asked.lock().sources.push((source.clone(), request));
        let meta = self.meta.clone().ok_or_else(|| RemoteError::new(Kind::Unimplemented, "no metadata"))?;
        Ok((source, meta))
    }

    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError> {
        Ok(self.inputs.clone())
    }

    async fn warn(&self, warning: Warning) -> Result<(), RemoteError> {
        self.asked.lock().warnings.push(warning);
        Ok(())
    }
}

struct FakeRef {
    definition: Option<Arc<Definition>>,
    files: Arc<BTreeMap<String, Bytes>>,
}

#[async_trait]
impl GatewayRef for FakeRef {
    fn id(&self) -> &str {
        "ref"
    }

    fn definition(&self) -> Option<Arc<Definition>> {
        self.definition.clone()
    }

    async fn evaluate(&self) -> Result<(), RemoteError> {
        Ok(())
    }

    async fn read_file(&self, file: ReadFile) -> Result<Bytes, RemoteError> {
        let content = self.files.get(&file.path);
        let content = content.ok_or_else(|| RemoteError::new(Kind::NotFound, "not found"))?;
        let Some(FileRange { offset, length }) = file.range else { return Ok(content.clone()) };
        let place = |at: u64| content.len().min(usize::try_from(at).unwrap_or(usize::MAX));
        Ok(content.slice(place(offset)..place(offset.saturating_add(length))))
    }

    async fn read_dir(&self, _: ReadDir) -> Result<Vec<Stat>, RemoteError> {
        Ok(Vec::new())
    }

    async fn stat_file(&self, path: &str) -> Result<Stat, RemoteError> {
        Err(RemoteError::new(Kind::NotFound, format!("{path}: not found")))
    }
}
