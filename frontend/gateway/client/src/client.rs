use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse};
use buildkit_solver_pb::{Definition, SourceOp};
use buildkit_solver_result::BuildResult;
use buildkit_util_grpcerrors::RemoteError;

use crate::{BuildOpts, GatewayRef, ImageConfig, ImageConfigError, SolveRequest, Warning};

/// What a solve gives back, and a frontend returns.
pub type GatewayResult = BuildResult<Arc<dyn GatewayRef>>;

/// The bridge of one build as its frontend sees it.
///
/// Lifecycle: one client is made for each run of a frontend and lives until that returns. Refs that it handed
/// out can be parts of that result, and of no other's. Calls may run side by side; a call whose future is dropped
/// is cancelled, and so are all when the build is.
///
/// Errors carry what upstream's do: a kind, a text, and details, such as the step that failed and its place in
/// a source file, which have to be kept when an error is passed on (change `message`, not `details`).
#[async_trait]
pub trait GatewayClient: Send + Sync + 'static {
    /// What the frontend was told when it started.
    fn build_opts(&self) -> &BuildOpts;

    /// Solves a graph or runs another frontend. Refs of the result are lazy unless `evaluate` is set: what a
    /// graph fails with, whoever looks into its ref is told.
    async fn solve(&self, request: SolveRequest) -> Result<GatewayResult, RemoteError>;

    /// Digest and configuration of an image, which is not fetched. `image` is a reference, or with
    /// `request.layout` the name of an image in a layout of the user.
    ///
    /// `request.no_config` is not heeded; use
    /// [`resolve_source_meta`](Self::resolve_source_meta) for that.
    async fn resolve_image_config(
        &self,
        image: &str,
        request: MetaRequest,
    ) -> Result<ImageConfig, ImageConfigError>;

    /// What is known of a source, which is not fetched. The source of the answer is the one that was asked for,
    /// or the one that takes its place.
    async fn resolve_source_meta(
        &self,
        source: SourceOp,
        request: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError>;

    /// The graphs that the user gave the frontend, by name.
    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError>;

    /// Adds a warning to the progress of the build. Its `vertex` may be that of a step of any graph.
    async fn warn(&self, warning: Warning) -> Result<(), RemoteError>;
}

/// A frontend: turns what its user asks for into a result.
///
/// It is called once for each build and keeps nothing between two of them. It must not panic on what it
/// reads; whatever it fails with becomes the error of the build.
#[async_trait]
pub trait BuildFunction: Send + Sync + 'static {
    /// Builds with a client.
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError>;

    /// Says more about why a tree of the result could not be made, which is often found out after
    /// [`build`](Self::build) returned. `client` is a new one, with the options and inputs of that run; `definition` is
    /// the graph of the tree.
    ///
    /// Those who wait for the build wait for the answer: it has to come soon, and whatever goes wrong on the way to it,
    /// the answer is the error as it was. Kind and details stay. By default nothing more is known.
    async fn explain(
        &self,
        client: Arc<dyn GatewayClient>,
        definition: Option<Arc<Definition>>,
        error: RemoteError,
    ) -> RemoteError {
        let _ = (client, definition);
        error
    }
}
