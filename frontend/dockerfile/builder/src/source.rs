use buildkit_frontend_dockerfile_dockerfile2llb as convert;
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_solver_errdefs::{ParsedDetail, parse, sources};
use buildkit_solver_pb::SourceInfo;
use buildkit_util_grpcerrors::RemoteError;

use crate::explain::with_hint;

/// The error as clients get it: with the file and the lines in it that are at fault.
pub(crate) fn with_lines(error: convert::Error, file: &SourceInfo) -> RemoteError {
    let convert::Error { remote, locations, hint } = error;
    add_places(with_hint(remote, hint), file, &locations)
}

/// Adds lines of the file to an error.
pub(crate) fn add_lines(error: RemoteError, file: &SourceInfo, ranges: &[Range]) -> RemoteError {
    add_places(error, file, &[ranges.to_vec()])
}

fn add_places(mut error: RemoteError, file: &SourceInfo, places: &[Vec<Range>]) -> RemoteError {
    let places: Vec<_> = places.iter().map(|ranges| convert::wire_ranges(ranges)).collect();
    error.details.extend(sources(places.iter().map(|ranges| (file, &ranges[..]))));
    error
}

/// Whether an error says which lines of which file are at fault.
pub(crate) fn has_lines(error: &RemoteError) -> bool {
    error.details.iter().any(|detail| matches!(parse(detail), Some(ParsedDetail::Source { .. })))
}
