//! What is told of a file without building it.

use std::collections::BTreeSet;
use std::sync::Arc;

use buildkit_client_llb::MarshalOptions;
use buildkit_frontend_dockerfile_instructions as instructions;
use buildkit_frontend_dockerfile_linter::Warning;
use buildkit_frontend_dockerfile_parser::{self as parser, Range};
use buildkit_frontend_subrequests::{
    BuildError, ConvertedGraph, LintResults, LintWarning, Outline, OutlineArg, OutlineSecret, OutlineSsh,
    Target, TargetList,
};
use buildkit_solver_pb as pb;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::convert::convert;
use crate::outline::Needed;
use crate::stage::{StageId, Stages};
use crate::{ConvertOptions, Error, Result};

/// About the bytes that a warning takes in all its forms.
const WARNING: usize = 4 << 10;

/// The graph of the stage that is asked for.
///
/// # Errors
/// As [`to_llb`](crate::to_llb).
pub async fn graph(dockerfile: &[u8], options: &ConvertOptions) -> Result<ConvertedGraph> {
    let converted = crate::to_llb(dockerfile, options).await?;
    let definition = converted.state.marshal(&converted.marshal)?;
    ConvertedGraph::new(&definition).map_err(|error| Error::invalid(error.to_string()))
}

/// What the linter says of a file: of the stage that is asked for, or of all of them. What would fail the build is part
/// of it.
///
/// # Errors
/// When the file's place in the build cannot be told, or there are more warnings than can be.
pub async fn lint(dockerfile: &[u8], options: &ConvertOptions) -> Result<LintResults> {
    let mut results = LintResults::default();
    let source_index = results.add_source(options.source_map.to_info(&MarshalOptions::new())?);
    let warnings: Arc<Mutex<Vec<Warning>>> = Arc::default();
    let (sink, budget) = (warnings.clone(), options.budget.clone());
    let options = ConvertOptions {
        warn: Some(Arc::new(move |warning| {
            if budget.take(WARNING).is_ok() {
                sink.lock().push(warning);
            }
        })),
        all_stages: options.config.target.is_empty(),
        ..options.clone()
    };
    let outcome = convert(dockerfile, &options).await.map(drop);
    // Where there was no room for a warning there is none now.
    options.budget.take(WARNING)?;
    for Warning { rule, message, ranges } in warnings.lock().drain(..) {
        results.add_warning(LintWarning {
            rule: rule.name.to_owned(),
            description: rule.description.to_owned(),
            url: rule.url.to_owned(),
            detail: message,
            location: pb::Location { source_index, ranges: wire_ranges(&ranges) },
        });
    }
    if let Err(error) = outcome {
        let location = match error.locations.as_slice() {
            [] => pb::Location::default(),
            locations => pb::Location { source_index, ranges: wire_ranges(&merged(locations)) },
        };
        results.set_error(BuildError { message: error.to_string(), location });
    }
    Ok(results)
}

/// The stages of a file.
///
/// # Errors
/// When the file is malformed.
pub fn targets(dockerfile: &[u8]) -> Result<TargetList> {
    let ast = parser::parse(dockerfile)?;
    let stages = instructions::parse(&ast)?.stages;
    let last = stages.len().saturating_sub(1);
    let targets = stages.into_iter().enumerate().map(|(index, stage)| Target {
        name: stage.name,
        default: index == last,
        description: stage.doc_comment.unwrap_or_default(),
        base: stage.base_name,
        platform: stage.platform,
        location: location(&stage.origin.ranges),
    });
    Ok(TargetList { targets: targets.collect(), sources: vec![Bytes::copy_from_slice(dockerfile)] })
}

/// What the build of the stage that is asked for takes.
///
/// # Errors
/// As [`to_llb`](crate::to_llb).
pub async fn outline(dockerfile: &[u8], options: &ConvertOptions) -> Result<Outline> {
    let finished = convert(dockerfile, options).await?;
    let stages = &finished.converter.stages;
    let mut outline = Outline {
        name: stages[finished.target].stage.name.clone(),
        description: stages[finished.target].stage.doc_comment.clone().unwrap_or_default(),
        sources: vec![Bytes::copy_from_slice(dockerfile)],
        ..Outline::default()
    };
    let mut seen = Seen::default();
    seen.add(stages, finished.target, &mut outline);
    outline.args.sort_by_key(|arg| first_line(arg.location.as_ref()));
    outline.secrets.sort_by_key(|secret| first_line(secret.location.as_ref()));
    outline.ssh.sort_by_key(|ssh| first_line(ssh.location.as_ref()));
    Ok(outline)
}

/// What an outline has already.
#[derive(Default)]
struct Seen {
    stages: BTreeSet<StageId>,
    args: BTreeSet<String>,
    secrets: BTreeSet<String>,
    ssh: BTreeSet<String>,
}

impl Seen {
    /// Adds what a stage takes, and then the stages that it needs.
    fn add(&mut self, stages: &Stages, start: StageId, outline: &mut Outline) {
        let mut next = vec![start];
        while let Some(id) = next.pop() {
            if !self.stages.insert(id) {
                continue;
            }
            let stage = &stages[id];
            let capture = &stage.outline;
            let used = capture.all_used();
            for arg in used.iter().filter_map(|key| capture.arg(key)) {
                if self.args.insert(arg.key.clone()) {
                    outline.args.push(OutlineArg {
                        name: arg.key.clone(),
                        description: arg.doc_comment.clone().unwrap_or_default(),
                        value: arg.value.clone(),
                        location: location(&arg.ranges),
                    });
                }
            }
            for (id, Needed { is_required, ranges }) in &capture.secrets {
                if self.secrets.insert(id.clone()) {
                    let (name, required, location) = (id.clone(), *is_required, location(ranges));
                    outline.secrets.push(OutlineSecret { name, required, location });
                }
            }
            for (id, Needed { is_required, ranges }) in &capture.ssh {
                if self.ssh.insert(id.clone()) {
                    let (name, required, location) = (id.clone(), *is_required, location(ranges));
                    outline.ssh.push(OutlineSsh { name, required, location });
                }
            }
            next.extend(stage.needs.keys().rev());
            next.extend(stage.base);
        }
    }
}

fn first_line(location: Option<&pb::Location>) -> i32 {
    let range = location.and_then(|location| location.ranges.first());
    range.and_then(|range| range.start.as_ref()).map_or(0, |start| start.line)
}

fn location(ranges: &[Range]) -> Option<pb::Location> {
    (!ranges.is_empty()).then(|| pb::Location { source_index: 0, ranges: wire_ranges(ranges) })
}

/// Ranges in the words of graphs.
pub fn wire_ranges(ranges: &[Range]) -> Vec<pb::Range> {
    let position = |(line, character)| Some(pb::Position { line, character });
    crate::name::llb_ranges(ranges)
        .into_iter()
        .map(|range| pb::Range { start: position(range.start), end: position(range.end) })
        .collect()
}

/// All lines, those that overlap as one range.
fn merged(locations: &[Vec<Range>]) -> Vec<Range> {
    let mut all: Vec<Range> = locations.iter().flatten().copied().collect();
    all.sort_by_key(|range| range.start.line);
    let mut merged: Vec<Range> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(last) if range.start.line <= last.end.line => {
                last.end.line = last.end.line.max(range.end.line);
            }
            _ => merged.push(range),
        }
    }
    merged
}
