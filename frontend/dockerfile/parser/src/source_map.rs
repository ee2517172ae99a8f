use crate::Position;

/// Where in the file the bytes of a joined line come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    /// The first byte of each piece and its place, ascending.
    pieces: Vec<(usize, Position)>,
}

impl SourceMap {
    /// Tells that the bytes from `offset` on, which is behind all pieces so far, begin at `position`.
    pub(crate) fn push(&mut self, offset: usize, position: Position) {
        self.pieces.push((offset, position));
    }

    /// The map of the text that begins at `start` of this one's.
    pub(crate) fn from(&self, start: usize) -> Self {
        let first = (0, self.position(start));
        let rest = self.pieces.iter().filter(|(at, _)| *at > start).map(|(at, place)| (at - start, *place));
        Self { pieces: std::iter::once(first).chain(rest).collect() }
    }

    /// The place of the byte `offset`; of one behind the end, where it would be on the last line.
    pub fn position(&self, offset: usize) -> Position {
        let behind = self.pieces.partition_point(|(at, _)| *at <= offset);
        let Some((at, place)) = behind.checked_sub(1).and_then(|i| self.pieces.get(i)) else {
            return Position::default();
        };
        let further = u32::try_from(offset - at).unwrap_or(u32::MAX);
        Position { line: place.line, character: place.character.saturating_add(further) }
    }
}
