use std::sync::Arc;

use buildkit_solver_pb as pb;
use bytes::Bytes;

use crate::{MarshalOptions, Result, State};

/// A source file that ops are made from, so that messages can show the line that is at fault.
#[derive(Clone, Debug)]
pub struct SourceMap {
    pub(crate) state: Option<State>,
    pub(crate) filename: String,
    pub(crate) language: String,
    pub(crate) data: Bytes,
}

impl SourceMap {
    /// A file with this content. `language` is a name as in GitHub's Linguist, such as `Dockerfile`.
    pub fn new(filename: &str, language: &str, data: impl Into<Bytes>) -> Arc<Self> {
        Arc::new(Self {
            state: None,
            filename: filename.to_owned(),
            language: language.to_owned(),
            data: data.into(),
        })
    }

    /// As [`new`](Self::new), with the tree that the file was read from.
    pub fn with_state(state: State, filename: &str, language: &str, data: impl Into<Bytes>) -> Arc<Self> {
        Arc::new(Self {
            state: Some(state),
            filename: filename.to_owned(),
            language: language.to_owned(),
            data: data.into(),
        })
    }

    /// Name of the file.
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// Content of the file.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The file as messages carry it, with the definition of the tree that it was read from.
    ///
    /// # Errors
    /// When that tree cannot be marshalled.
    pub fn to_info(&self, options: &MarshalOptions) -> Result<pb::SourceInfo> {
        Ok(pb::SourceInfo {
            filename: self.filename.clone(),
            data: self.data.clone(),
            definition: self.state.as_ref().map(|state| state.marshal(options)).transpose()?,
            language: self.language.clone(),
        })
    }

    pub(crate) fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other)
            || (self.filename == other.filename && self.language == other.language && self.data == other.data)
    }
}

/// A part of a source file; lines count from 1, the end is included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First line and character.
    pub start: (i32, i32),
    /// Last line and character.
    pub end: (i32, i32),
}

impl Range {
    /// Whole lines.
    pub fn lines(first: i32, last: i32) -> Self {
        Self { start: (first, 0), end: (last, 0) }
    }

    pub(crate) fn to_pb(self) -> pb::Range {
        let position = |(line, character)| Some(pb::Position { line, character });
        pb::Range { start: position(self.start), end: position(self.end) }
    }

    pub(crate) fn from_pb(range: &pb::Range) -> Self {
        let position = |p: &Option<pb::Position>| p.as_ref().map_or((0, 0), |p| (p.line, p.character));
        Self { start: position(&range.start), end: position(&range.end) }
    }
}
