//! Progress between its domain types and `StatusResponse`.

use std::time::SystemTime;

use buildkit_solver_pb as pb;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress as progress;
use prost_types::Timestamp;

use crate::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};

/// Output that one message carries at most, in bytes: what upstream's clients are ready to take.
const LOG_LIMIT: usize = 1 << 20;

/// What a log entry takes besides its data.
const LOG_OVERHEAD: usize = 128;

/// Turns changes into messages, each with at most about 1 MiB of output.
pub fn to_messages(status: progress::SolveStatus) -> Vec<StatusResponse> {
    let mut message = StatusResponse {
        vertexes: status.vertexes.into_iter().map(vertex_to_pb).collect(),
        statuses: status.statuses.into_iter().map(status_to_pb).collect(),
        logs: Vec::new(),
        warnings: status.warnings.into_iter().map(warning_to_pb).collect(),
    };
    let mut messages = Vec::with_capacity(1);
    let mut size = 0;
    for log in status.logs {
        size += log.data.len() + LOG_OVERHEAD;
        if size > LOG_LIMIT && !message.logs.is_empty() {
            messages.push(std::mem::take(&mut message));
            size = log.data.len() + LOG_OVERHEAD;
        }
        message.logs.push(VertexLog {
            vertex: log.vertex.to_string(),
            timestamp: Some(log.timestamp.into()),
            stream: match log.stream {
                progress::LogStream::Stdout => 1,
                progress::LogStream::Stderr => 2,
            },
            msg: log.data,
        });
    }
    messages.push(message);
    messages
}

/// Turns a message into changes. Entries without a valid digest are left out.
pub fn from_message(message: StatusResponse) -> progress::SolveStatus {
    progress::SolveStatus {
        vertexes: message.vertexes.into_iter().filter_map(vertex_from_pb).collect(),
        statuses: message.statuses.into_iter().filter_map(status_from_pb).collect(),
        logs: message.logs.into_iter().filter_map(log_from_pb).collect(),
        warnings: message.warnings.into_iter().filter_map(warning_from_pb).collect(),
    }
}

fn vertex_to_pb(vertex: progress::Vertex) -> Vertex {
    Vertex {
        digest: vertex.digest.to_string(),
        inputs: vertex.inputs.iter().map(Digest::to_string).collect(),
        name: vertex.name,
        cached: vertex.cached,
        started: vertex.started.map(Timestamp::from),
        completed: vertex.completed.map(Timestamp::from),
        error: vertex.error,
        progress_group: vertex.progress_group.map(|group| pb::ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
    }
}

fn vertex_from_pb(vertex: Vertex) -> Option<progress::Vertex> {
    Some(progress::Vertex {
        digest: Digest::parse(&vertex.digest).ok()?,
        inputs: vertex.inputs.iter().filter_map(|input| Digest::parse(input).ok()).collect(),
        name: vertex.name,
        cached: vertex.cached,
        started: vertex.started.and_then(time),
        completed: vertex.completed.and_then(time),
        error: vertex.error,
        progress_group: vertex.progress_group.map(|group| progress::ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
    })
}

fn status_to_pb(status: progress::VertexStatus) -> VertexStatus {
    VertexStatus {
        id: status.id,
        vertex: status.vertex.to_string(),
        name: status.name,
        current: status.current,
        total: status.total,
        timestamp: Some(status.timestamp.into()),
        started: status.started.map(Timestamp::from),
        completed: status.completed.map(Timestamp::from),
    }
}

fn status_from_pb(status: VertexStatus) -> Option<progress::VertexStatus> {
    Some(progress::VertexStatus {
        id: status.id,
        vertex: Digest::parse(&status.vertex).ok()?,
        name: status.name,
        current: status.current,
        total: status.total,
        timestamp: status.timestamp.and_then(time).unwrap_or(SystemTime::UNIX_EPOCH),
        started: status.started.and_then(time),
        completed: status.completed.and_then(time),
    })
}

fn log_from_pb(log: VertexLog) -> Option<progress::VertexLog> {
    Some(progress::VertexLog {
        vertex: Digest::parse(&log.vertex).ok()?,
        stream: if log.stream == 2 { progress::LogStream::Stderr } else { progress::LogStream::Stdout },
        data: log.msg,
        timestamp: log.timestamp.and_then(time).unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

fn warning_to_pb(warning: progress::VertexWarning) -> VertexWarning {
    let position = |position: progress::Position| {
        Some(pb::Position { line: position.line, character: position.character })
    };
    VertexWarning {
        vertex: warning.vertex.to_string(),
        level: i64::from(warning.level),
        short: warning.short,
        detail: warning.detail,
        url: warning.url,
        info: warning.source_info.map(|info| pb::SourceInfo {
            filename: info.filename,
            data: info.data,
            definition: None,
            language: info.language,
        }),
        ranges: warning
            .ranges
            .into_iter()
            .map(|range| pb::Range { start: position(range.start), end: position(range.end) })
            .collect(),
    }
}

fn warning_from_pb(warning: VertexWarning) -> Option<progress::VertexWarning> {
    let position = |position: Option<pb::Position>| {
        position.map_or_else(progress::Position::default, |position| progress::Position {
            line: position.line,
            character: position.character,
        })
    };
    Some(progress::VertexWarning {
        vertex: Digest::parse(&warning.vertex).ok()?,
        level: i32::try_from(warning.level).unwrap_or(i32::MAX),
        short: warning.short,
        detail: warning.detail,
        url: warning.url,
        source_info: warning.info.map(|info| progress::SourceInfo {
            filename: info.filename,
            data: info.data,
            language: info.language,
        }),
        ranges: warning
            .ranges
            .into_iter()
            .map(|range| progress::Range { start: position(range.start), end: position(range.end) })
            .collect(),
    })
}

/// `None` for a time that the system cannot hold.
fn time(timestamp: Timestamp) -> Option<SystemTime> {
    SystemTime::try_from(timestamp).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_split_and_nothing_is_lost() {
        let log = |len: usize| progress::VertexLog {
            vertex: Digest::sha256(b"v"),
            stream: progress::LogStream::Stderr,
            data: vec![b'x'; len].into(),
            timestamp: SystemTime::UNIX_EPOCH,
        };
        let status = progress::SolveStatus {
            vertexes: vec![progress::Vertex {
                digest: Digest::sha256(b"v"),
                inputs: vec![Digest::sha256(b"i")],
                name: "name".to_owned(),
                started: Some(SystemTime::UNIX_EPOCH),
                completed: None,
                cached: true,
                error: String::new(),
                progress_group: None,
            }],
            logs: vec![log(700_000), log(700_000), log(2_000_000), log(1)],
            ..progress::SolveStatus::default()
        };
        let messages = to_messages(status.clone());
        assert_eq!(messages.iter().map(|m| m.logs.len()).collect::<Vec<_>>(), [1, 1, 1, 1]);
        let mut back = progress::SolveStatus::default();
        for message in messages {
            let part = from_message(message);
            back.vertexes.extend(part.vertexes);
            back.logs.extend(part.logs);
        }
        assert_eq!(back, status);
    }
}
