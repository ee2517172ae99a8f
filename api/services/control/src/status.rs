//! Progress between its domain types and `StatusResponse`.

use std::time::SystemTime;

use buildkit_solver_pb as pb;
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress as progress;
use prost::Message;
use prost_types::Timestamp;

use crate::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};

/// Bytes that one message carries at most, unless one entry is longer: what upstream's clients are ready to take of
/// output. Of warnings, each of which carries the file that it is about, a few can be more than they take at all.
const LIMIT: usize = 1 << 20;

/// Puts entries into messages.
#[derive(Default)]
struct Messages {
    full: Vec<StatusResponse>,
    last: StatusResponse,
    /// Bytes of the last one.
    size: usize,
}

impl Messages {
    /// The message for an entry.
    fn with_room(&mut self, entry: &impl Message) -> &mut StatusResponse {
        let size = entry.encoded_len();
        if self.size > 0 && self.size + size > LIMIT {
            self.full.push(std::mem::take(&mut self.last));
            self.size = 0;
        }
        self.size += size;
        &mut self.last
    }
}

/// Turns changes into messages, each of at most about 1 MiB.
pub fn to_messages(status: progress::SolveStatus) -> Vec<StatusResponse> {
    let mut messages = Messages::default();
    for vertex in status.vertexes.into_iter().map(vertex_to_pb) {
        messages.with_room(&vertex).vertexes.push(vertex);
    }
    for status in status.statuses.into_iter().map(status_to_pb) {
        messages.with_room(&status).statuses.push(status);
    }
    for warning in status.warnings.into_iter().map(warning_to_pb) {
        messages.with_room(&warning).warnings.push(warning);
    }
    for log in status.logs.into_iter().map(log_to_pb) {
        messages.with_room(&log).logs.push(log);
    }
    let Messages { mut full, last, .. } = messages;
    full.push(last);
    full
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

fn log_to_pb(log: progress::VertexLog) -> VertexLog {
    VertexLog {
        vertex: log.vertex.to_string(),
        timestamp: Some(log.timestamp.into()),
        stream: match log.stream {
            progress::LogStream::Stdout => 1,
            progress::LogStream::Stderr => 2,
        },
        msg: log.data,
    }
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

    /// Each has the file that it is about.
    #[test]
    fn many_warnings_are_no_message_that_nobody_takes() {
        let warning = progress::VertexWarning {
            vertex: Digest::sha256(b"v"),
            level: 1,
            short: "a rule is broken".into(),
            detail: Vec::new(),
            url: String::new(),
            source_info: Some(progress::SourceInfo {
                filename: "Dockerfile".to_owned(),
                data: vec![b'#'; 100_000].into(),
                language: "Dockerfile".to_owned(),
            }),
            ranges: Vec::new(),
        };
        let warnings = vec![warning; 500];
        let status = progress::SolveStatus { warnings: warnings.clone(), ..progress::SolveStatus::default() };
        let messages = to_messages(status);
        assert!(messages.iter().all(|message| message.encoded_len() < 2 << 20));
        let back: Vec<_> = messages.into_iter().flat_map(|message| from_message(message).warnings).collect();
        assert_eq!(back, warnings);
    }
}
