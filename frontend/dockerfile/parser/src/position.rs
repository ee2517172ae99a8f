/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The byte in the line, from 0.
    pub character: u32,
}

/// From one position to another.
///
/// Whole lines are written as the wire wants them: both ends at character 0 of the line, one range a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Where it begins.
    pub start: Position,
    /// Where it ends, inclusive of the line.
    pub end: Position,
}

impl Range {
    /// The whole of one line.
    pub const fn line(line: u32) -> Self {
        let at = Position { line, character: 0 };
        Self { start: at, end: at }
    }

    /// One range for each line from `start` to `end`; the first line only when `end` is before it.
    pub fn lines(start: u32, end: u32) -> Vec<Self> {
        (start..=end.max(start)).map(Self::line).collect()
    }
}
