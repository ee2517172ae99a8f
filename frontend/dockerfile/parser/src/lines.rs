/// The most bytes that a line may have, without its line end.
pub const MAX_LINE: usize = (64 << 10) - 1;

/// The lines of a text, with their line ends, up to the first that is too long.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    /// Lines given out.
    pub(crate) count: u32,
    /// Whether it ended early.
    pub(crate) too_long: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text, count: 0, too_long: false }
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        if self.too_long || self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\n');
        if end.unwrap_or(self.rest.len()) > MAX_LINE {
            self.too_long = true;
            return None;
        }
        let (line, rest) = self.rest.split_at(end.map_or(self.rest.len(), |end| end + 1));
        self.rest = rest;
        self.count = self.count.saturating_add(1);
        Some(line)
    }
}
