use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client_llb_sourceresolver::image_source;
use buildkit_frontend::{BridgeError, FrontendResult, LlbBridge, Reference};
use buildkit_frontend_gateway_client::{
    BuildOpts, GatewayClient, GatewayRef, GatewayResult, ImageConfig, ImageConfigError, MetaRequest,
    MetaResponse, SolveRequest, Warning,
};
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_util_grpcerrors::RemoteError;

use crate::reference::ForwardedRef;
use crate::refs::Refs;

/// The bridge of one build as a frontend sees it. Dropping it, with the refs that it handed out, releases all that they
/// hold.
pub struct BridgeClient {
    bridge: Arc<dyn LlbBridge>,
    opts: BuildOpts,
    inputs: BTreeMap<String, Definition>,
    refs: Arc<Refs>,
}

impl BridgeClient {
    /// A client for a frontend with these options and inputs.
    pub fn new(
        bridge: Arc<dyn LlbBridge>,
        opts: BTreeMap<String, String>,
        inputs: BTreeMap<String, Definition>,
    ) -> Self {
        let info = bridge.info().clone();
        let opts = BuildOpts {
            opts,
            session_id: info.session_id,
            workers: info.workers,
            product: info.product,
            llb_caps: info.llb_caps,
            caps: info.frontend_caps,
        };
        Self { bridge, opts, inputs, refs: Arc::default() }
    }

    /// The ref that was handed out under an id, in a result or in the details of an error.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, id: &str) -> Result<Arc<dyn GatewayRef>, RemoteError> {
        let definition = if self.refs.is_of_failure(id) { None } else { self.refs.get(id)?.definition() };
        Ok(self.reference(id.to_owned(), definition))
    }

    /// The result that a frontend returns as the build understands it.
    ///
    /// # Errors
    /// When a ref in it is not of this client.
    pub fn to_frontend(&self, result: &GatewayResult) -> Result<FrontendResult, RemoteError> {
        result.try_map(|reference| self.refs.get(reference.id()))
    }

    /// The error that a frontend returns, with the state of the step that failed.
    pub fn to_bridge_error(&self, error: RemoteError) -> BridgeError {
        self.refs.take_state(error)
    }

    /// An error as a frontend is told it: with ids under which the state of the step that failed can be looked into.
    pub(crate) fn tell(&self, error: BridgeError) -> RemoteError {
        self.refs.with_state(error)
    }

    fn reference(&self, id: String, definition: Option<Arc<Definition>>) -> Arc<dyn GatewayRef> {
        Arc::new(ForwardedRef { id, definition, refs: self.refs.clone() })
    }

    fn hand_out(&self, reference: &Arc<dyn Reference>) -> Arc<dyn GatewayRef> {
        self.reference(self.refs.add(reference.clone()), reference.definition())
    }
}

#[async_trait]
impl GatewayClient for BridgeClient {
    fn build_opts(&self) -> &BuildOpts {
        &self.opts
    }

    async fn solve(&self, request: SolveRequest) -> Result<GatewayResult, RemoteError> {
        let result = self.bridge.solve(request).await.map_err(|error| self.refs.with_state(error))?;
        result.try_map(|reference| Ok(self.hand_out(reference)))
    }

    async fn resolve_image_config(
        &self,
        image: &str,
        request: MetaRequest,
    ) -> Result<ImageConfig, ImageConfigError> {
        let source = image_source(image, request.layout.as_ref());
        let wanted = source.identifier.clone();
        let request = MetaRequest { no_config: false, ..request };
        let (source, found) = self.resolve_source_meta(source, request).await?;
        ImageConfig::of_source(wanted, &source, found)
    }

    async fn resolve_source_meta(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        self.bridge.resolve_source(source, request).await.map_err(|error| self.refs.with_state(error))
    }

    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError> {
        Ok(self.inputs.clone())
    }

    async fn warn(&self, warning: Warning) -> Result<(), RemoteError> {
        self.bridge.warn(warning).map_err(|error| self.refs.with_state(error))
    }
}
