use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use buildkit_api_types::WorkerRecord;
use buildkit_client_llb_sourceresolver::{LayoutStore, MetaRequest, platform_of};
use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, CacheImport, FrontendResult, LlbBridge, SolveRequest as BridgeRequest};
use buildkit_frontend_gateway_client::{FileRange, GatewayClient, GatewayResult, ReadDir, ReadFile};
use buildkit_frontend_gateway_forwarder::BridgeClient;
use buildkit_frontend_gateway_pb as pb;
use buildkit_frontend_gateway_pb::{meta, results};
use buildkit_solver_pb::Definition;
use buildkit_solver_result::Refs;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::{Position, Range, SourceInfo, VertexWarning};
use bytes::Bytes;

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
    client: BridgeClient,
    options: ForwarderOptions,
    returned: Returned,
}

type Answer<T> = Result<T, RemoteError>;

fn invalid(message: impl Into<String>) -> RemoteError {
    RemoteError::new(Kind::InvalidArgument, message)
}

impl BridgeForwarder {
    /// A forwarder to the bridge of a build.
    pub fn new(bridge: Arc<dyn LlbBridge>, mut options: ForwarderOptions) -> Self {
        let inputs = std::mem::take(&mut options.inputs);
        Self {
            client: BridgeClient::new(bridge, BTreeMap::new(), inputs),
            options,
            returned: Returned::new(),
        }
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
        let (allow_return, allow_array) = (request.allow_result_return, request.allow_result_array_ref);
        let result = self
            .client
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
                source_policies: request.source_policies,
            })
            .await?;
        let default_id = match &result.refs {
            Refs::Single(reference) => reference.as_ref().map(|reference| reference.id().to_owned()),
            Refs::Many(_) if allow_return => None,
            Refs::Many(_) => {
                return Err(RemoteError::new(Kind::Unknown, "solve did not return default result"));
            }
        };
        if request.r#final {
            self.return_last(result.clone(), &request.exporter_attr)?;
        }
        let named = result.try_map(|reference| {
            let def = reference.definition().map(|definition| (*definition).clone());
            Ok::<_, Infallible>(pb::Ref { id: reference.id().to_owned(), def })
        });
        let Ok(named) = named;
        Ok(pb::SolveResponse {
            r#ref: if allow_return { String::new() } else { default_id.unwrap_or_default() },
            result: Some(results::to_message(named, allow_array)),
        })
    }

    /// Frontends from before `Return` hand over their result so.
    fn return_last(&self, mut result: GatewayResult, attributes: &[u8]) -> Answer<()> {
        use base64::Engine as _;

        let of_error =
            |error: &dyn std::fmt::Display| invalid(format!("invalid exporter attributes: {error}"));
        let attributes: BTreeMap<String, String> =
            serde_json::from_slice(attributes).map_err(|error| of_error(&error))?;
        for (key, value) in attributes {
            let value = base64::engine::general_purpose::STANDARD.decode(value);
            let value: Bytes = value.map_err(|error| of_error(&error))?.into();
            result.metadata.entry(key).or_insert(value);
        }
        self.returned.set(Ok(self.client.to_frontend(&result)?));
        Ok(())
    }

    /// What is known of an image.
    ///
    /// # Errors
    /// When there is no such image, or it has no such platform.
    pub async fn resolve_image_config(
        &self,
        request: pb::ResolveImageConfigRequest,
    ) -> Answer<pb::ResolveImageConfigResponse> {
        let layout = match request.resolver_type {
            0 => None,
            1 => Some(LayoutStore { session_id: request.session_id, store_id: request.store_id }),
            other => return Err(invalid(format!("unknown resolver type {other}"))),
        };
        let wanted = MetaRequest {
            log_name: request.log_name,
            platform: request.platform.as_ref().map(platform_of),
            resolve_mode: request.resolve_mode,
            layout,
            source_policies: request.source_policies,
            ..MetaRequest::default()
        };
        let found = self.client.resolve_image_config(&request.r#ref, wanted).await?;
        Ok(pb::ResolveImageConfigResponse {
            digest: found.digest.to_string(),
            config: found.config,
            r#ref: found.reference,
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
        let (source, wanted) =
            meta::from_message(request).map_err(|error| RemoteError::from_error(&error))?;
        let (source, found) = self.client.resolve_source_meta(source, wanted).await?;
        Ok(meta::to_message(source, found))
    }

    /// Reads a file of a ref.
    ///
    /// # Errors
    /// When the ref fails, or the file is not there or no regular file.
    pub async fn read_file(&self, request: pb::ReadFileRequest) -> Answer<pb::ReadFileResponse> {
        let negative = |_| invalid("invalid negative file range");
        let range = request.range.map(|range| {
            let offset = u64::try_from(range.offset).map_err(negative)?;
            Ok::<_, RemoteError>(FileRange { offset, length: u64::try_from(range.length).map_err(negative)? })
        });
        let file = ReadFile { path: request.file_path, range: range.transpose()? };
        Ok(pb::ReadFileResponse { data: self.client.get(&request.r#ref)?.read_file(file).await? })
    }

    /// Lists a directory of a ref.
    ///
    /// # Errors
    /// When the ref fails, or the directory is not there.
    pub async fn read_dir(&self, request: pb::ReadDirRequest) -> Answer<pb::ReadDirResponse> {
        let directory = ReadDir { path: request.dir_path, include_pattern: request.include_pattern };
        Ok(pb::ReadDirResponse { entries: self.client.get(&request.r#ref)?.read_dir(directory).await? })
    }

    /// Says what a path of a ref is.
    ///
    /// # Errors
    /// When the ref fails, or the path is not there.
    pub async fn stat_file(&self, request: pb::StatFileRequest) -> Answer<pb::StatFileResponse> {
        let stat = self.client.get(&request.r#ref)?.stat_file(&request.path).await?;
        Ok(pb::StatFileResponse { stat: Some(stat) })
    }

    /// Makes the tree of a ref.
    ///
    /// # Errors
    /// When it fails.
    pub async fn evaluate(&self, request: pb::EvaluateRequest) -> Answer<pb::EvaluateResponse> {
        self.client.get(&request.r#ref)?.evaluate().await?;
        Ok(pb::EvaluateResponse::default())
    }

    /// The graphs that the driver was given.
    ///
    /// # Errors
    /// None that a driver can do anything about.
    pub async fn inputs(&self) -> Answer<pb::InputsResponse> {
        Ok(pb::InputsResponse { definitions: self.client.inputs().await? })
    }

    /// Adds a warning to the build's progress.
    ///
    /// # Errors
    /// When its digest or source makes no sense.
    pub async fn warn(&self, request: pb::WarnRequest) -> Answer<pb::WarnResponse> {
        let vertex = Digest::parse(&request.digest).map_err(|error| invalid(error.to_string()))?;
        let position = |position: Option<buildkit_solver_pb::Position>| {
            position.map_or_else(Position::default, |position| Position {
                line: position.line,
                character: position.character,
            })
        };
        let warning = VertexWarning {
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
        };
        self.client.warn(warning).await?;
        Ok(pb::WarnResponse::default())
    }

    /// Ends the build with a result or an error.
    ///
    /// # Errors
    /// When the result names refs that there are not.
    pub fn r#return(&self, request: pb::ReturnRequest) -> Answer<pb::ReturnResponse> {
        let outcome = match (request.error, request.result) {
            (Some(status), _) => Err(self.client.to_bridge_error(RemoteError::from_rpc(status))),
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
        let named = results::from_message(result).map_err(|error| invalid(error.to_string()))?;
        let result = named.try_map(|reference| self.client.get(&reference.id))?;
        self.client.to_frontend(&result)
    }
}
