//! A bridge that builds nothing: it has one Dockerfile, an ignore file and the configurations of some images, and
//! writes down what it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{
    BuildOpts, GatewayClient, GatewayRef, GatewayResult, ImageConfig, ImageConfigError, MetaRequest,
    MetaResponse, ReadDir, ReadFile, RemoteError, SolveRequest, Stat, Warning, WorkerInfo,
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
}

/// What was asked.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) solves: Vec<SolveRequest>,
    pub(crate) images: Vec<String>,
    pub(crate) warnings: Vec<Warning>,
}

pub(crate) struct FakeClient {
    opts: BuildOpts,
    images: BTreeMap<String, Value>,
    files: Arc<BTreeMap<&'static str, Bytes>>,
    pub(crate) asked: Mutex<Asked>,
}

impl FakeClient {
    pub(crate) fn new(given: Given) -> Arc<Self> {
        let llb_caps = caps::list();
        let on = llb_caps.all().into_iter().filter(|cap| !given.caps_off.contains(&cap.id));
        let frontend_caps = buildkit_frontend_gateway_pb::caps::list();
        let mut files = BTreeMap::from([("Dockerfile", given.dockerfile)]);
        if !given.ignore_file.is_empty() {
            files.insert(".dockerignore", given.ignore_file.into());
        }
        Arc::new(Self {
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
        _: SourceOp,
        _: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        Err(RemoteError::new(Kind::Unimplemented, "no metadata"))
    }

    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError> {
        Ok(BTreeMap::new())
    }

    async fn warn(&self, warning: Warning) -> Result<(), RemoteError> {
        self.asked.lock().warnings.push(warning);
        Ok(())
    }
}

struct FakeRef {
    definition: Option<Arc<Definition>>,
    files: Arc<BTreeMap<&'static str, Bytes>>,
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
        let content = self.files.get(file.path.as_str()).cloned();
        content.ok_or_else(|| RemoteError::new(Kind::NotFound, "not found"))
    }

    async fn read_dir(&self, _: ReadDir) -> Result<Vec<Stat>, RemoteError> {
        Ok(Vec::new())
    }

    async fn stat_file(&self, path: &str) -> Result<Stat, RemoteError> {
        Err(RemoteError::new(Kind::NotFound, format!("{path}: not found")))
    }
}
