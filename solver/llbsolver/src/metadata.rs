//! Asks sources what they know without fetching anything.

use std::sync::Arc;

use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse, platform_of};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::BridgeError;
use buildkit_session::SessionGroup;
use buildkit_solver_pb::SourceOp;
use buildkit_solver_pb::map::to_map;
use buildkit_source::{Identifier, SourceContext};
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use tokio_util::sync::CancellationToken;

use crate::build::BuildCore;
use crate::step::Step;

/// Asks a source, as a step of the build's progress. The same question in the same build is the same step.
pub(crate) async fn resolve_source(
    core: &Arc<BuildCore>,
    source: SourceOp,
    request: MetaRequest,
) -> Result<(SourceOp, MetaResponse), BridgeError> {
    let options = &core.solver.shared.options;
    let services = options.solver.domain().services();
    let platform = request.platform.clone().unwrap_or_else(|| platform_of(&options.default_platform));
    let (scheme, reference) = source.identifier.split_once("://").ok_or_else(|| {
        let text = format!("failed to parse source identifier {:?}", source.identifier);
        RemoteError::new(Kind::InvalidArgument, text)
    })?;
    let failed = |error: buildkit_source::Error| {
        let text = format!("failed to resolve source metadata for {reference}: {error}");
        BridgeError::from(RemoteError::new(error.kind(), text))
    };
    let instance = services
        .sources
        .resolve(&Identifier {
            scheme: scheme.to_owned(),
            reference: reference.to_owned(),
            attrs: to_map(source.attrs.clone()),
            platform: Some(platform.clone()),
        })
        .map_err(failed)?;
    let name = match request.log_name.as_str() {
        "" => format!("resolve image config for {}", source.identifier),
        name => name.to_owned(),
    };
    let digest = Digest::sha256(format!("{} {platform} {name}", source.identifier));
    let step = Step::new(core.job.progress(), digest, name);
    // The bridge drops this when the build ends.
    let cancelled = CancellationToken::new();
    let _cancel = cancelled.clone().drop_guard();
    let cx = SourceContext {
        sessions: options.sessions.clone(),
        group: SessionGroup::new([core.info.session_id.clone()]),
        progress: step.writer(),
        cancelled,
    };
    let found = step.run(async { instance.metadata(&cx, &request).await.map_err(failed) }).await?;
    Ok((source, found))
}
