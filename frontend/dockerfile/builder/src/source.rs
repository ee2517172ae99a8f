use std::sync::Arc;

use buildkit_client_llb::{MarshalOptions, SourceMap};
use buildkit_frontend_dockerfile_dockerfile2llb as convert;
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_solver_errdefs::{ParsedDetail, parse, source};
use buildkit_solver_pb as pb;
use buildkit_util_grpcerrors::RemoteError;

use crate::explain::with_hint;

/// The error as clients get it: with the file and the lines in it that are at fault.
pub(crate) fn with_lines(error: convert::Error, file: &Arc<SourceMap>) -> RemoteError {
    let convert::Error { remote, locations, hint } = error;
    let remote = with_hint(remote, hint);
    locations.iter().fold(remote, |error, ranges| add_lines(error, file, ranges))
}

/// Adds lines of the file to an error.
pub(crate) fn add_lines(error: RemoteError, file: &Arc<SourceMap>, ranges: &[Range]) -> RemoteError {
    let Ok(info) = file.to_info(&MarshalOptions::new()) else { return error };
    error.with(source(&info, &pb_ranges(ranges)))
}

/// Whether an error says which lines of which file are at fault.
pub(crate) fn has_lines(error: &RemoteError) -> bool {
    error.details.iter().any(|detail| matches!(parse(detail), Some(ParsedDetail::Source { .. })))
}

/// Ranges in the words of graphs.
fn pb_ranges(ranges: &[Range]) -> Vec<pb::Range> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let position = |at: buildkit_frontend_dockerfile_parser::Position| {
        Some(pb::Position { line: number(at.line), character: number(at.character) })
    };
    ranges.iter().map(|range| pb::Range { start: position(range.start), end: position(range.end) }).collect()
}
