//! Asks sources what they know without fetching anything.

use std::sync::Arc;

use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse, platform_of, platform_to};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::BridgeError;
use buildkit_session::SessionGroup;
use buildkit_solver_pb::SourceOp;
use buildkit_solver_pb::map::to_map;
use buildkit_source::{Identifier, SourceContext};
use buildkit_sourcepolicy::Engine;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use tokio_util::sync::CancellationToken;

use crate::build::BuildCore;
use crate::policy::{compile, doing, evaluate};
use crate::step::Step;

/// Asks a source, or the one that takes its place by the rules and decisions of the build.
pub(crate) async fn resolve_source(
    core: &Arc<BuildCore>,
    rules: &Engine,
    source: SourceOp,
    mut request: MetaRequest,
) -> Result<(SourceOp, MetaResponse), BridgeError> {
    let rules = compile(&std::mem::take(&mut request.source_policies))?.then(rules);
    if !core.policy.applies(&rules) {
        return look_up(core, source, request).await;
    }
    // Whatever takes its place, people see what was asked.
    if request.log_name.is_empty() {
        request.log_name = step_name(&source);
    }
    let reference = source.identifier.split_once("://").map_or("", |(_, reference)| reference).to_owned();
    let platform = request.platform.as_ref().map(platform_to);
    let decided = evaluate(core, &rules, source, platform.as_ref()).await.map_err(|error| {
        let what = format!(
            "failed to resolve source metadata for {reference}: could not resolve image due to policy"
        );
        doing(&what, error)
    })?;
    look_up(core, decided, request).await
}

fn step_name(source: &SourceOp) -> String {
    format!("resolve image config for {}", source.identifier)
}

/// Asks a source, as a step of the build's progress. The same question in the same build is the same step.
pub(crate) async fn look_up(
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
        "" => step_name(&source),
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
