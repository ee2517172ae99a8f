use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use buildkit_client_llb_sourceresolver::{
    GitMeta, HttpMeta, ImageMeta, image_source, platform_of, platform_to,
};
use buildkit_errdefs::Kind;
use buildkit_frontend_gateway_client::{
    BuildOpts, CacheImport, GatewayClient, GatewayRef, GatewayResult, ImageConfig, ImageConfigError,
    MetaRequest, MetaResponse, SolveRequest, Warning, WorkerInfo,
};
use buildkit_frontend_gateway_pb::{self as pb, caps, results};
use buildkit_solver_pb::{self as llb, Definition, SourceOp};
use buildkit_solver_result::BuildResult;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use tonic::Request;
use tonic::transport::Channel;

use crate::bridge::{Bridge, BuildId, answer, bridge};
use crate::reference::RemoteRef;

/// Time in which the other side has to say what it can do.
const PING_PATIENCE: Duration = Duration::from_secs(15);
/// Options by which clients tell frontends of caches, which hold for the frontends that these run, too.
const CACHE_OPTIONS: [&str; 2] = ["cache-imports", "cache-from"];

/// What a frontend outside of the daemon is told when it starts.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The build that it works for; empty if the connection serves one build only.
    pub build_id: String,
    /// Options of its user.
    pub opts: BTreeMap<String, String>,
    /// The session that serves the user's files.
    pub session_id: String,
    /// Who runs the frontend.
    pub product: String,
    /// Workers of the daemon; none are those that the daemon tells of.
    pub workers: Vec<WorkerInfo>,
}

/// The bridge of a build, over a connection.
pub struct GrpcClient {
    pub(crate) bridge: Bridge,
    opts: BuildOpts,
}

impl GrpcClient {
    /// Asks the other side what it can do.
    ///
    /// # Errors
    /// When it does not answer in time, or knows no such build.
    pub async fn new(channel: Channel, settings: Settings) -> Result<Self, RemoteError> {
        let mut bridge = bridge(channel, BuildId::new(&settings.build_id)?);
        let mut ping = Request::new(pb::PingRequest {});
        ping.set_timeout(PING_PATIENCE);
        let pong = answer(bridge.ping(ping).await)?;
        let told = pong.workers.into_iter().map(|worker| WorkerInfo {
            id: worker.id,
            labels: worker.labels,
            platforms: worker.platforms.iter().map(platform_of).collect(),
        });
        let workers = if settings.workers.is_empty() { told.collect() } else { settings.workers };
        let opts = BuildOpts {
            opts: settings.opts,
            session_id: settings.session_id,
            workers,
            product: settings.product,
            llb_caps: llb::caps::list().cap_set(pong.llb_caps),
            caps: caps::list().cap_set(pong.frontend_api_caps),
        };
        Ok(Self { bridge, opts })
    }

    pub(crate) fn supports(&self, cap: &str) -> bool {
        self.opts.caps.supports(cap).is_ok()
    }

    pub(crate) fn needs(&self, cap: &str) -> Result<(), RemoteError> {
        self.opts.caps.supports(cap).map_err(|error| RemoteError::from_error(&error))
    }

    fn reference(&self, reference: &pb::Ref) -> Arc<dyn GatewayRef> {
        Arc::new(RemoteRef {
            id: reference.id.clone(),
            definition: reference.def.clone().map(Arc::new),
            bridge: self.bridge.clone(),
            caps: self.opts.caps.clone(),
        })
    }

    /// The configuration of an image by the call that old daemons know.
    async fn old_image_config(&self, image: &str, request: MetaRequest) -> Result<ImageConfig, RemoteError> {
        let is_layout = request.layout.is_some();
        let layout = request.layout.unwrap_or_default();
        let message = pb::ResolveImageConfigRequest {
            r#ref: image.to_owned(),
            platform: request.platform.as_ref().map(platform_to),
            resolve_mode: request.resolve_mode,
            log_name: request.log_name,
            resolver_type: i32::from(is_layout),
            session_id: layout.session_id,
            store_id: layout.store_id,
            source_policies: request.source_policies,
        };
        let found = answer(self.bridge.clone().resolve_image_config(message).await)?;
        // Old daemons name no reference.
        let reference = if found.r#ref.is_empty() { image.to_owned() } else { found.r#ref };
        Ok(ImageConfig { reference, digest: digest(&found.digest)?, config: found.config })
    }

    /// The image that an old daemon, which knows no other sources, is asked about.
    async fn old_source_meta(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        let Some((scheme @ ("docker-image" | "oci-layout"), image)) = source.identifier.split_once("://")
        else {
            return Ok((source, MetaResponse::default()));
        };
        let found = self.old_image_config(image, request).await?;
        let source =
            SourceOp { identifier: format!("{scheme}://{}", found.reference), attrs: source.attrs.clone() };
        let image = ImageMeta { digest: found.digest, config: Some(found.config) };
        Ok((source, MetaResponse { image: Some(image), ..MetaResponse::default() }))
    }
}

/// A digest that the other side says.
fn digest(text: &str) -> Result<Digest, RemoteError> {
    let invalid =
        |error| RemoteError::new(Kind::Internal, format!("Answer has the digest `{text}`: {error}"));
    Digest::parse(text).map_err(invalid)
}

#[async_trait]
impl GatewayClient for GrpcClient {
    fn build_opts(&self) -> &BuildOpts {
        &self.opts
    }

    async fn solve(&self, mut request: SolveRequest) -> Result<GatewayResult, RemoteError> {
        for option in CACHE_OPTIONS {
            if let Some(value) = self.opts.opts.get(option) {
                request.frontend_opt.entry(option.to_owned()).or_insert_with(|| value.clone());
            }
        }
        let evaluates = self.supports(caps::GATEWAY_EVALUATE_SOLVE);
        let import = |import: CacheImport| pb::CacheOptionsEntry { r#type: import.kind, attrs: import.attrs };
        let message = pb::SolveRequest {
            definition: request.definition,
            frontend: request.frontend,
            frontend_opt: request.frontend_opt,
            frontend_inputs: request.frontend_inputs,
            allow_result_return: true,
            allow_result_array_ref: true,
            cache_imports: request.cache_imports.into_iter().map(import).collect(),
            evaluate: request.evaluate && evaluates,
            source_policies: request.source_policies,
            ..pb::SolveRequest::default()
        };
        let response = answer(self.bridge.clone().solve(message).await)?;
        let named = match response.result {
            Some(result) => results::from_message(result)
                .map_err(|error| RemoteError::new(Kind::Internal, error.to_string()))?,
            None => {
                let reference = pb::Ref { id: response.r#ref, def: None };
                BuildResult::single(Some(reference).filter(|reference| !reference.id.is_empty()))
            }
        };
        let result: GatewayResult =
            named.try_map(|reference| Ok::<_, RemoteError>(self.reference(reference)))?;
        if request.evaluate && !evaluates {
            for reference in result.iter() {
                reference.evaluate().await?;
            }
        }
        Ok(result)
    }

    async fn resolve_image_config(
        &self,
        image: &str,
        request: MetaRequest,
    ) -> Result<ImageConfig, ImageConfigError> {
        if !self.supports(caps::SOURCE_META_RESOLVER) {
            return Ok(self.old_image_config(image, request).await?);
        }
        // The call for images cannot say that something else takes the place of one.
        let source = image_source(image, request.layout.as_ref());
        let wanted = source.identifier.clone();
        let request = MetaRequest { no_config: false, layout: None, ..request };
        let (source, found) = self.resolve_source_meta(source, request).await?;
        ImageConfig::of_source(wanted, &source, found)
    }

    async fn resolve_source_meta(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        // Where a layout is cannot be said otherwise but by the source itself.
        if !self.supports(caps::SOURCE_META_RESOLVER) || request.layout.is_some() {
            return self.old_source_meta(source, request).await;
        }
        let message = pb::ResolveSourceMetaRequest {
            source: Some(source.clone()),
            platform: request.platform.as_ref().map(platform_to),
            log_name: request.log_name,
            resolve_mode: request.resolve_mode,
            source_policies: request.source_policies,
            image: Some(pb::ResolveSourceImageRequest {
                no_config: request.no_config,
                ..pb::ResolveSourceImageRequest::default()
            }),
            git: request.git_objects.then_some(pb::ResolveSourceGitRequest { return_object: true }),
            ..pb::ResolveSourceMetaRequest::default()
        };
        let found = answer(self.bridge.clone().resolve_source_meta(message).await)?;
        let image = found.image.map(|image| {
            let config = (!image.config.is_empty()).then_some(image.config);
            Ok::<_, RemoteError>(ImageMeta { digest: digest(&image.digest)?, config })
        });
        let http = found.http.map(|file| {
            let last_modified = file.last_modified.map(SystemTime::try_from).transpose();
            let last_modified = last_modified.map_err(|error| {
                RemoteError::new(Kind::Internal, format!("Answer has a date that cannot be: {error}"))
            })?;
            let (checksum, filename) = (digest(&file.checksum)?, file.filename);
            Ok::<_, RemoteError>(HttpMeta { checksum, filename, last_modified })
        });
        let git = found.git.map(|repository| GitMeta {
            checksum: repository.checksum,
            reference: repository.r#ref,
            commit_checksum: repository.commit_checksum,
            commit_object: repository.commit_object,
            tag_object: repository.tag_object,
        });
        let meta = MetaResponse { image: image.transpose()?, git, http: http.transpose()? };
        Ok((found.source.unwrap_or(source), meta))
    }

    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError> {
        self.needs(caps::FRONTEND_INPUTS)?;
        Ok(answer(self.bridge.clone().inputs(pb::InputsRequest {}).await)?.definitions)
    }

    async fn warn(&self, warning: Warning) -> Result<(), RemoteError> {
        let message = pb::WarnRequest {
            digest: warning.vertex.to_string(),
            level: warning.level.into(),
            short: warning.short,
            detail: warning.detail,
            url: warning.url,
            info: warning.source_info.map(|info| llb::SourceInfo {
                filename: info.filename,
                data: info.data,
                language: info.language,
                definition: None,
            }),
            ranges: warning
                .ranges
                .into_iter()
                .map(|range| {
                    let position = |at: buildkit_util_progress::Position| llb::Position {
                        line: at.line,
                        character: at.character,
                    };
                    llb::Range { start: Some(position(range.start)), end: Some(position(range.end)) }
                })
                .collect(),
        };
        answer(self.bridge.clone().warn(message).await).map(drop)
    }
}
