use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_api_types::WorkerRecord;
use buildkit_client_llb_sourceresolver::{LayoutStore, MetaRequest, platform_of};
use buildkit_errdefs::Kind;
use buildkit_frontend::{
    BridgeError, CacheImport, FrontendResult, LlbBridge, Reference, SolveRequest as BridgeRequest,
};
use buildkit_frontend_gateway_pb as pb;
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_solver_result::{BuildResult, Refs as ResultRefs};
use buildkit_util_appcontext as tasks;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Position, Range, SourceInfo, VertexWarning};

use crate::files;
use crate::refs::Refs;
use crate::returned::Returned;

/// What a forwarder tells its driver, and what it hands to it.
#[derive(Clone, Default)]
pub struct ForwarderOptions {
    /// Workers of the daemon.
    pub workers: Vec<WorkerRecord>,
    /// Capabilities of the bridge.
    pub frontend_caps: Vec<buildkit_util_apicaps::pb::ApiCap>,
    /// Capabilities of the ops.
    pub llb_caps: Vec<buildkit_util_apicaps::pb::ApiCap>,
    /// Graphs that the driver may ask for by name.
    pub inputs: BTreeMap<String, Definition>,
}

/// Serves the bridge of one build. Dropping it releases every ref that it handed out.
pub struct BridgeForwarder {
    bridge: Arc<dyn LlbBridge>,
    options: ForwarderOptions,
    refs: Refs,
    returned: Returned,
}

type Answer<T> = Result<T, RemoteError>;

fn invalid(message: impl Into<String>) -> RemoteError {
    RemoteError::new(Kind::InvalidArgument, message)
}

impl BridgeForwarder {
    /// A forwarder to the bridge of a build.
    pub fn new(bridge: Arc<dyn LlbBridge>, options: ForwarderOptions) -> Self {
        Self { bridge, options, refs: Refs::default(), returned: Returned::new() }
    }

    /// Waits for the result that the driver returns.
    ///
    /// # Errors
    /// The error that it returns.
    pub async fn wait(&self) -> Result<FrontendResult, BridgeError> {
        self.returned.wait().await
    }

    /// What this daemon and its bridge can do.
    pub fn ping(&self) -> pb::PongResponse {
        pb::PongResponse {
            frontend_api_caps: self.options.frontend_caps.clone(),
            llb_caps: self.options.llb_caps.clone(),
            workers: self.options.workers.clone(),
        }
    }

    /// Solves a definition or runs a frontend; the refs of the answer are made when used, or now when
    /// `evaluate` is set.
    ///
    /// # Errors
    /// What the solve fails with, with the state of the failed step.
    pub async fn solve(&self, request: pb::SolveRequest) -> Answer<pb::SolveResponse> {
        let request_final = request.r#final;
        let exporter_attr = request.exporter_attr;
        let (allow_return, allow_array) = (request.allow_result_return, request.allow_result_array_ref);
        let result = self
            .bridge
            .solve(BridgeRequest {
                evaluate: request.evaluate,
                definition: request.definition,
                frontend: request.frontend,
                frontend_opt: request.frontend_opt,
                frontend_inputs: request.frontend_inputs,
                cache_imports: request
                    .cache_imports
                    .into_iter()
                    .map(|import| CacheImport { kind: import.r#type, attrs: import.attrs })
                    .collect(),
            })
            .await
            .map_err(|error| self.refs.with_state(error))?;
        if !allow_return && matches!(result.refs, ResultRefs::Many(_)) {
            return Err(RemoteError::new(Kind::Unknown, "solve did not return default result"));
        }
        let keep = |reference: &Option<Arc<dyn Reference>>| {
            reference.as_ref().map_or_else(pb::Ref::default, |reference| pb::Ref {
                id: self.refs.add(reference.clone()),
                def: reference.definition().map(|definition| (*definition).clone()),
            })
        };
        let mut default_id = String::new();
        let refs = match &result.refs {
            ResultRefs::Single(reference) => {
                let reference = keep(reference);
                default_id.clone_from(&reference.id);
                if allow_array {
                    pb::result::Result::Ref(reference)
                } else {
                    pb::result::Result::RefDeprecated(reference.id)
                }
            }
            ResultRefs::Many(refs) => {
                let refs = refs.iter().map(|(key, reference)| (key.clone(), keep(reference)));
                if allow_array {
                    pb::result::Result::Refs(pb::RefMap { refs: refs.collect() })
                } else {
                    let refs = refs.map(|(key, reference)| (key, reference.id)).collect();
                    pb::result::Result::RefsDeprecated(pb::RefMapDeprecated { refs })
                }
            }
        };
        if request_final {
            // Frontends from before `Return` hand over their result so.
            let mut metadata: BTreeMap<String, String> = serde_json::from_slice(&exporter_attr)
                .map_err(|error| invalid(format!("invalid exporter attributes: {error}")))?;
            metadata.retain(|key, _| !result.metadata.contains_key(key));
            let mut last = result.clone();
            for (key, value) in metadata {
                use base64::Engine as _;
                let value = base64::engine::general_purpose::STANDARD
                    .decode(value)
                    .map_err(|error| invalid(format!("invalid exporter attributes: {error}")))?;
                last.metadata.insert(key, value.into());
            }
            self.returned.set(Ok(last));
        }
        Ok(pb::SolveResponse {
            r#ref: if allow_return { String::new() } else { default_id },
            result: Some(pb::Result {
                metadata: result.metadata,
                attestations: BTreeMap::new(),
                result: Some(refs),
            }),
        })
    }

    /// What is known of an image.
    ///
    /// # Errors
    /// When there is no such image, or it has no such platform.
    pub async fn resolve_image_config(
        &self,
        request: pb::ResolveImageConfigRequest,
    ) -> Answer<pb::ResolveImageConfigResponse> {
        let scheme = match request.resolver_type {
            0 => "docker-image",
            1 => "oci-layout",
            other => return Err(invalid(format!("unknown resolver type {other}"))),
        };
        if !request.source_policies.is_empty() {
            return Err(policies());
        }
        let source = SourceOp { identifier: format!("{scheme}://{}", request.r#ref), attrs: Vec::new() };
        let layout = LayoutStore { session_id: request.session_id, store_id: request.store_id };
        let wanted = MetaRequest {
            log_name: request.log_name,
            platform: request.platform.as_ref().map(platform_of),
            resolve_mode: request.resolve_mode,
            no_config: false,
            layout: (request.resolver_type == 1).then_some(layout),
        };
        let (source, found) =
            self.bridge.resolve_source(source, wanted).await.map_err(|error| error.error)?;
        let image = found.image.ok_or_else(|| {
            let text = format!(
                "ref mutated by policy to non-image: {scheme}://{} -> {}",
                request.r#ref, source.identifier
            );
            RemoteError::new(Kind::Unknown, text)
        })?;
        let reference = source.identifier.split_once("://").map_or("", |(_, reference)| reference);
        Ok(pb::ResolveImageConfigResponse {
            digest: image.digest.to_string(),
            config: image.config.unwrap_or_default(),
            r#ref: reference.to_owned(),
        })
    }

    /// What is known of a source.
    ///
    /// # Errors
    /// When there is no such source, or more is asked than this daemon tells.
    pub async fn resolve_source_meta(
        &self,
        request: pb::ResolveSourceMetaRequest,
    ) -> Answer<pb::ResolveSourceMetaResponse> {
        let source = request.source.ok_or_else(|| invalid("source is required"))?;
        if !request.source_policies.is_empty() {
            return Err(policies());
        }
        let image = request.image.unwrap_or_default();
        if image.attestation_chain || !image.resolve_attestations.is_empty() {
            return Err(RemoteError::new(
                Kind::Unimplemented,
                "Attestations of images are not implemented by this daemon",
            ));
        }
        let wanted = MetaRequest {
            log_name: request.log_name,
            platform: request.platform.as_ref().map(platform_of),
            resolve_mode: request.resolve_mode,
            no_config: image.no_config,
            layout: None,
        };
        let (source, found) =
            self.bridge.resolve_source(source, wanted).await.map_err(|error| error.error)?;
        Ok(pb::ResolveSourceMetaResponse {
            source: Some(source),
            image: found.image.map(|image| pb::ResolveSourceImageResponse {
                digest: image.digest.to_string(),
                config: image.config.unwrap_or_default(),
                attestation_chain: None,
            }),
            git: None,
            http: None,
        })
    }

    /// Reads a file of a ref.
    ///
    /// # Errors
    /// When the ref fails, or the file is not there or no regular file.
    pub async fn read_file(&self, request: pb::ReadFileRequest) -> Answer<pb::ReadFileResponse> {
        let root = self.refs.directory(&request.r#ref).await?;
        let data = blocking(move || files::read_file(&root, &request.file_path, request.range)).await?;
        Ok(pb::ReadFileResponse { data: data.into() })
    }

    /// Lists a directory of a ref.
    ///
    /// # Errors
    /// When the ref fails, or the directory is not there.
    pub async fn read_dir(&self, request: pb::ReadDirRequest) -> Answer<pb::ReadDirResponse> {
        let root = self.refs.directory(&request.r#ref).await?;
        let entries =
            blocking(move || files::read_dir(&root, &request.dir_path, &request.include_pattern)).await?;
        Ok(pb::ReadDirResponse { entries })
    }

    /// Says what a path of a ref is.
    ///
    /// # Errors
    /// When the ref fails, or the path is not there.
    pub async fn stat_file(&self, request: pb::StatFileRequest) -> Answer<pb::StatFileResponse> {
        let root = self.refs.directory(&request.r#ref).await?;
        let stat = blocking(move || files::stat_file(&root, &request.path)).await?;
        Ok(pb::StatFileResponse { stat: Some(stat) })
    }

    /// Makes the tree of a ref.
    ///
    /// # Errors
    /// When it fails.
    pub async fn evaluate(&self, request: pb::EvaluateRequest) -> Answer<pb::EvaluateResponse> {
        self.refs.evaluate(&request.r#ref).await?;
        Ok(pb::EvaluateResponse::default())
    }

    /// The graphs that the driver was given.
    pub fn inputs(&self) -> pb::InputsResponse {
        pb::InputsResponse { definitions: self.options.inputs.clone() }
    }

    /// Adds a warning to the build's progress.
    ///
    /// # Errors
    /// When its digest or source makes no sense.
    pub fn warn(&self, request: pb::WarnRequest) -> Answer<pb::WarnResponse> {
        let vertex = Digest::parse(&request.digest).map_err(|error| invalid(error.to_string()))?;
        let position = |position: Option<buildkit_solver_pb::Position>| {
            position.map_or_else(Position::default, |position| Position {
                line: position.line,
                character: position.character,
            })
        };
        self.bridge.warn(VertexWarning {
            vertex,
            level: i32::try_from(request.level).unwrap_or(i32::MAX),
            short: request.short,
            detail: request.detail,
            url: request.url,
            source_info: request.info.map(|info| SourceInfo {
                filename: info.filename,
                data: info.data,
                language: info.language,
            }),
            ranges: request
                .ranges
                .into_iter()
                .map(|range| Range { start: position(range.start), end: position(range.end) })
                .collect(),
        });
        Ok(pb::WarnResponse::default())
    }

    /// Ends the build with a result or an error.
    ///
    /// # Errors
    /// When the result names refs that there are not.
    pub fn r#return(&self, request: pb::ReturnRequest) -> Answer<pb::ReturnResponse> {
        let outcome = match (request.error, request.result) {
            (Some(status), _) => Err(RemoteError::from_rpc(buildkit_util_grpcerrors::rpc::Status {
                code: status.code,
                message: status.message,
                details: status.details,
            })
            .into()),
            (None, Some(result)) => Ok(self.find(result)?),
            (None, None) => return Err(invalid("Return carries neither a result nor an error")),
        };
        if self.returned.set(outcome) {
            Ok(pb::ReturnResponse::default())
        } else {
            Err(RemoteError::new(Kind::FailedPrecondition, "Build has returned already"))
        }
    }

    fn find(&self, result: pb::Result) -> Answer<FrontendResult> {
        if !result.attestations.is_empty() {
            return Err(RemoteError::new(
                Kind::Unimplemented,
                "Attestations of results are not implemented by this daemon",
            ));
        }
        let get = |id: &str| -> Answer<Option<Arc<dyn Reference>>> {
            if id.is_empty() { Ok(None) } else { self.refs.get(id).map(Some) }
        };
        let refs = match result.result {
            None => ResultRefs::Single(None),
            Some(pb::result::Result::RefDeprecated(id)) => ResultRefs::Single(get(&id)?),
            Some(pb::result::Result::Ref(reference)) => ResultRefs::Single(get(&reference.id)?),
            Some(pb::result::Result::RefsDeprecated(map)) => {
                let refs = map.refs.iter().map(|(key, id)| Ok((key.clone(), get(id)?)));
                ResultRefs::Many(refs.collect::<Answer<_>>()?)
            }
            Some(pb::result::Result::Refs(map)) => {
                let refs = map.refs.iter().map(|(key, reference)| Ok((key.clone(), get(&reference.id)?)));
                ResultRefs::Many(refs.collect::<Answer<_>>()?)
            }
        };
        Ok(BuildResult { refs, metadata: result.metadata })
    }
}

fn policies() -> RemoteError {
    RemoteError::new(Kind::Unimplemented, "Source policies are not implemented by this daemon")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    tasks::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(RemoteError::new(Kind::Internal, error.to_string())))
}
