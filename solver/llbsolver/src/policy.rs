//! Source policies: rules and decisions about what the sources of a build may be.

use std::sync::Arc;

use buildkit_errdefs::Kind;
use buildkit_frontend::BridgeError;
use buildkit_frontend_gateway_pb::{ResolveSourceMetaRequest, ResolveSourceMetaResponse, meta};
use buildkit_session::{LOOKUP_WAIT, SessionCaller};
use buildkit_session_pb::policysession::{CheckPolicyRequest, DecisionResponse};
use buildkit_solver_llbsolver_ops::DecodedDefinition;
use buildkit_solver_pb::map::{from_map, to_map};
use buildkit_solver_pb::{Platform, SourceOp};
use buildkit_sourcepolicy::{Engine, Source};
use buildkit_sourcepolicy_pb::{Policy, PolicyAction};
use buildkit_sourcepolicy_policysession::{PolicyAnswer, check, denial};
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::build::BuildCore;
use crate::metadata::look_up;

/// How often a client is asked about one source of a graph, with all that takes its place.
const MAX_REQUESTS: usize = 10;

/// Sources of one graph that are decided about at a time.
const PARALLEL: usize = 64;

/// Most bytes of all the sources that policies put into one graph.
const MAX_CHANGED: usize = 64 << 20;

/// What holds for all sources of one build.
pub(crate) struct BuildPolicy {
    /// The rules of its client.
    pub(crate) rules: Engine,
    /// The session that decides after the rules; empty for none.
    session: String,
}

impl BuildPolicy {
    pub(crate) fn new(policy: Option<&Policy>, session: String) -> Result<Self, BridgeError> {
        Ok(Self { rules: compile(policy)?, session })
    }

    /// Whether anything is to be decided about a source that is under these rules.
    pub(crate) fn applies(&self, rules: &Engine) -> bool {
        !rules.is_empty() || !self.session.is_empty()
    }
}

pub(crate) fn compile<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Result<Engine, BridgeError> {
    Engine::new(policies).map_err(|error| RemoteError::from_error(&error).into())
}

/// Says what failed with an error; its details stay.
pub(crate) fn doing(what: &str, mut error: BridgeError) -> BridgeError {
    error.error.message = format!("{what}: {}", error.error.message);
    error
}

fn refused(text: impl Into<String>) -> BridgeError {
    RemoteError::new(Kind::PermissionDenied, text).into()
}

/// Decides about all sources of a graph, and changes it accordingly.
pub(crate) async fn apply(
    core: &Arc<BuildCore>,
    rules: &Engine,
    graph: &mut DecodedDefinition,
) -> Result<(), BridgeError> {
    let sources: Vec<_> =
        graph.sources().map(|(at, source, platform)| (at, source.clone(), platform.cloned())).collect();
    let decisions = stream::iter(sources.into_iter().map(|(at, source, platform)| async move {
        let decided = evaluate(core, rules, source.clone(), platform.as_ref()).await?;
        Ok::<_, BridgeError>((decided != source).then_some((at, decided)))
    }));
    let mut decisions = decisions.buffer_unordered(PARALLEL);
    let (mut changes, mut size) = (Vec::new(), 0);
    while let Some(change) =
        decisions.try_next().await.map_err(|error| doing("error evaluating the source policy", error))?
    {
        let Some((at, source)) = change else { continue };
        size += size_of(&source);
        if size > MAX_CHANGED {
            let text =
                format!("Source policy makes sources of more than {MAX_CHANGED} bytes in one definition");
            return Err(RemoteError::new(Kind::ResourceExhausted, text).into());
        }
        changes.push((at, source));
    }
    for (at, source) in changes {
        graph.set_source(at, &source).map_err(|error| RemoteError::from_error(&error))?;
    }
    Ok(())
}

fn size_of(source: &SourceOp) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let attrs = source.attrs.iter().map(|attr| length(&attr.key) + length(&attr.value));
    source.identifier.len() + attrs.sum::<usize>()
}

/// What takes the place of a source, which is mostly itself. `platform` is the one that it names.
pub(crate) async fn evaluate(
    core: &Arc<BuildCore>,
    rules: &Engine,
    source: SourceOp,
    platform: Option<&Platform>,
) -> Result<SourceOp, BridgeError> {
    let mut source = apply_rules(core, rules, source).await?;
    let session = &core.policy.session;
    if session.is_empty() {
        return Ok(source);
    }
    let sessions = &core.solver.shared.options.sessions;
    let caller = sessions.get(session, LOOKUP_WAIT).await.map_err(|error| RemoteError::from_error(&error))?;
    let mut left = MAX_REQUESTS;
    while let Some(update) = ask(core, &caller, &source, platform, &mut left).await? {
        source = apply_rules(core, rules, update).await?;
    }
    Ok(source)
}

/// The source in the form that rules know it by, and after them.
async fn apply_rules(
    core: &Arc<BuildCore>,
    rules: &Engine,
    source: SourceOp,
) -> Result<SourceOp, BridgeError> {
    let sources = &core.solver.shared.options.solver.domain().services().sources;
    let attrs = to_map(source.attrs.iter().cloned());
    let mut known = Source { identifier: sources.canonical(&source.identifier), attrs: attrs.clone() };
    let known = if rules.is_empty() {
        known
    } else {
        let rules = rules.clone();
        // Many rules and long texts take a while.
        tasks::spawn_blocking(move || rules.evaluate(&mut known).map(|_| known))
            .await
            .map_err(|error| RemoteError::new(Kind::Internal, error.to_string()))?
            .map_err(|error| RemoteError::from_error(&error))?
    };
    let attrs = if known.attrs == attrs { source.attrs } else { from_map(known.attrs) };
    Ok(SourceOp { identifier: known.identifier, attrs })
}

/// Asks the client about a source until it decides; `None` if the source may be used as it is.
async fn ask(
    core: &Arc<BuildCore>,
    caller: &SessionCaller,
    source: &SourceOp,
    platform: Option<&Platform>,
    left: &mut usize,
) -> Result<Option<SourceOp>, BridgeError> {
    let mut known = ResolveSourceMetaResponse { source: Some(source.clone()), ..Default::default() };
    loop {
        *left = left.checked_sub(1).ok_or_else(|| refused("too many policy requests"))?;
        let request =
            CheckPolicyRequest { platform: platform.cloned(), source: Some(known), ..Default::default() };
        match check(caller, request).await? {
            PolicyAnswer::Decision(decision) => return decide(source, decision),
            PolicyAnswer::Ask(wanted) => known = find_out(core, source, *wanted).await?,
        }
    }
}

fn decide(source: &SourceOp, decision: DecisionResponse) -> Result<Option<SourceOp>, BridgeError> {
    let action = PolicyAction::try_from(decision.action);
    match action {
        Ok(PolicyAction::Allow) => Ok(None),
        Ok(PolicyAction::Convert) => match decision.update {
            Some(update) => Ok(Some(update)),
            None => Err(refused("convert action requires updated source")),
        },
        _ => {
            let action =
                action.map_or_else(|number| number.0.to_string(), |action| action.as_str_name().to_owned());
            let text = format!("source {:?} not allowed by policy: action {action}", source.identifier);
            let mut error = RemoteError::new(Kind::PermissionDenied, text);
            error.details.extend(denial(&decision.deny_messages));
            Err(error.into())
        }
    }
}

/// Finds out what a client wants to know of a source before it decides.
async fn find_out(
    core: &Arc<BuildCore>,
    source: &SourceOp,
    wanted: ResolveSourceMetaRequest,
) -> Result<ResolveSourceMetaResponse, BridgeError> {
    let asked = wanted.source.as_ref();
    let asked_identifier = asked.map_or("", |asked| asked.identifier.as_str());
    if asked_identifier != source.identifier {
        return Err(refused(format!(
            "policy requested different source identifier: {asked_identifier:?} != {:?}",
            source.identifier
        )));
    }
    let attrs = |source: &SourceOp| to_map(source.attrs.iter().cloned());
    if asked.is_some_and(|asked| attrs(asked) != attrs(source)) {
        return Err(refused(format!(
            "policy requested different source attrs: those of {asked_identifier:?} were changed"
        )));
    }
    let failed = |error| doing("error resolving source metadata from policy request", error);
    let (_, mut request) =
        meta::from_message(wanted).map_err(|error| failed(RemoteError::from_error(&error).into()))?;
    // The rules of the build have been asked; a client that decides needs no others.
    request.source_policies.clear();
    let (source, found) = look_up(core, source.clone(), request).await.map_err(failed)?;
    Ok(meta::to_message(source, found))
}
