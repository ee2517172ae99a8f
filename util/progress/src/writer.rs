use std::sync::Arc;
use std::time::SystemTime;

use buildkit_util_cachedigest::Digest;
use bytes::Bytes;

use crate::{Bus, Event, LogStream, VertexLog, VertexStatus, VertexWarning};

/// Writes the progress of one vertex. Clones write to the same place; never waits.
#[derive(Clone)]
pub struct Writer {
    vertex: Digest,
    sink: Arc<dyn Fn(Event) + Send + Sync>,
}

impl Writer {
    /// A writer for `vertex` that hands events to `sink`.
    pub fn new(vertex: Digest, sink: Arc<dyn Fn(Event) + Send + Sync>) -> Self {
        Self { vertex, sink }
    }

    /// A writer for `vertex` into a bus.
    pub fn for_bus(vertex: Digest, bus: Bus) -> Self {
        Self::new(vertex, Arc::new(move |event| bus.publish(event)))
    }

    /// A writer that nobody reads.
    pub fn discard() -> Self {
        Self::new(Digest::sha256(b""), Arc::new(|_| {}))
    }

    /// The vertex.
    pub fn vertex(&self) -> &Digest {
        &self.vertex
    }

    /// Starts a part of the step; its `id` is what people read.
    pub fn start(&self, id: &str) -> Part {
        self.start_action(id, "")
    }

    /// As [`start`](Self::start); `action` is what programs know parts of its kind by, such as `transferring`.
    pub fn start_action(&self, id: &str, action: &'static str) -> Part {
        let part = Part { writer: self.clone(), id: id.to_owned(), action, started: SystemTime::now() };
        part.send(0, 0, None);
        part
    }

    /// Adds output.
    pub fn log(&self, stream: LogStream, data: Bytes) {
        let vertex = self.vertex.clone();
        self.publish(Event::Log(VertexLog { vertex, stream, data, timestamp: SystemTime::now() }));
    }

    /// Something that adds output to `stream`, for those who know no progress.
    pub fn output(&self, stream: LogStream) -> impl Fn(&str) + Send + Sync + 'static {
        let writer = self.clone();
        move |text| writer.log(stream, Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Adds a warning; its vertex is set to this one.
    pub fn warn(&self, warning: VertexWarning) {
        self.publish(Event::Warning(VertexWarning { vertex: self.vertex.clone(), ..warning }));
    }

    /// Hands on any event.
    pub fn publish(&self, event: Event) {
        (self.sink)(event);
    }
}

/// A part of a step that runs.
#[must_use = "a part that is not done looks as if it went on"]
pub struct Part {
    writer: Writer,
    id: String,
    action: &'static str,
    started: SystemTime,
}

impl Part {
    /// Reports how much is done; `total` 0 is unknown.
    pub fn update(&self, current: i64, total: i64) {
        self.send(current, total, None);
    }

    /// Reports the end.
    pub fn done(self, current: i64, total: i64) {
        self.send(current, total, Some(SystemTime::now()));
    }

    fn send(&self, current: i64, total: i64, completed: Option<SystemTime>) {
        self.writer.publish(Event::Status(VertexStatus {
            id: self.id.clone(),
            vertex: self.writer.vertex.clone(),
            name: self.action.to_owned(),
            total,
            current,
            timestamp: SystemTime::now(),
            started: Some(self.started),
            completed,
        }));
    }
}
