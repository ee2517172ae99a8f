//! Errors of ops as clients get them.

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::BridgeError;
use buildkit_solver::{Error as SolverError, VertexId};
use buildkit_solver_errdefs::{self as errdefs, ParsedDetail};
use buildkit_solver_llbsolver_ops::Error as OpError;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;

use crate::load::Sources;

/// The error of a build, with the places in source files that its step comes from.
pub(crate) fn to_bridge_error(error: &SolverError<OpError>, sources: Option<&Sources>) -> BridgeError {
    let mut bridge_error = match error {
        SolverError::Op(OpError::Failed(failed)) => failed.clone(),
        SolverError::Op(OpError::Cancelled) | SolverError::Cancelled => {
            RemoteError::new(Kind::Cancelled, "context canceled").into()
        }
        SolverError::Op(other) => RemoteError::from_error(other).of_build().into(),
        other => RemoteError::new(other.kind(), other.to_string()).into(),
    };
    let Some(sources) = sources else { return bridge_error };
    let has_source = bridge_error
        .error
        .details
        .iter()
        .any(|detail| matches!(errdefs::parse(detail), Some(ParsedDetail::Source { .. })));
    let vertex = bridge_error.error.details.iter().find_map(|detail| match errdefs::parse(detail) {
        Some(ParsedDetail::Vertex(digest)) => Digest::parse(&digest).ok().map(VertexId),
        _ => None,
    });
    if let Some(vertex) = vertex.filter(|_| !has_source) {
        // The outermost detail comes first, which is the place that was named last.
        let places: Vec<_> = sources.of(&vertex).collect();
        bridge_error.error.details.extend(errdefs::sources(places.into_iter().rev()));
    }
    bridge_error
}
