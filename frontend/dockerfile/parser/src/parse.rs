use crate::error::At;
use crate::heredoc::announced;
use crate::keyword::takes_heredocs;
use crate::lines::Lines;
use crate::node::node_from_line;
use crate::{
    Args, Ast, DirectiveKind, DirectiveParser, Error, Heredoc, Located, Node, Position, Range, SourceMap,
    Warning,
};

/// Reads a Dockerfile.
///
/// Bytes that are no UTF-8 become U+FFFD. Unknown keywords are no error here.
///
/// ```
/// let ast = buildkit_frontend_dockerfile_parser::parse(b"# builds it\nFROM alpine\nRUN a && \\\n  b\n")?;
/// assert_eq!(ast.nodes[0].comments, ["builds it"]);
/// assert_eq!((ast.nodes[1].start_line, ast.nodes[1].end_line), (3, 4));
/// assert_eq!(ast.nodes[1].original, "RUN a &&   b");
/// # Ok::<(), buildkit_frontend_dockerfile_parser::Located<buildkit_frontend_dockerfile_parser::Error>>(())
/// ```
///
/// # Errors
/// What is wrong first, and where.
pub fn parse(data: &[u8]) -> Result<Ast, Located<Error>> {
    let text = String::from_utf8_lossy(data);
    let mut parser = Parser::new(&text);
    while parser.step()? {}
    parser.finish()
}

struct Parser<'a> {
    lines: Lines<'a>,
    directive_parser: DirectiveParser,
    comments: Vec<String>,
    ast: Ast,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: Lines::new(text),
            directive_parser: DirectiveParser::default(),
            comments: Vec::new(),
            ast: Ast { nodes: Vec::new(), escape_token: '\\', directives: Vec::new(), warnings: Vec::new() },
        }
    }

    /// Reads a comment, a blank line or an instruction. False at the end.
    fn step(&mut self) -> Result<bool, Located<Error>> {
        let first_line = self.lines.count == 0;
        let Some(whole) = self.lines.next() else { return Ok(false) };
        let line = if first_line { whole.strip_prefix('\u{feff}').unwrap_or(whole) } else { whole };
        let text = line.trim_end_matches(['\r', '\n']).trim_start();
        let is_directive = self.directive(text)?;
        if text.starts_with('#') {
            if !is_directive {
                self.comment(line);
            }
            return Ok(true);
        }
        let (piece, continues) = trim_continuation(text, self.ast.escape_token);
        if !continues && piece.is_empty() {
            return Ok(true);
        }
        let start = self.lines.count;
        let column = whole.len() - line.trim_start().len();
        let mut source = SourceMap::default();
        source.push(0, position(start, column));
        let line = if continues { self.joined(piece.to_owned(), &mut source) } else { piece.to_owned() };
        self.instruction(&line, source, start)?;
        Ok(true)
    }

    fn directive(&mut self, line: &str) -> Result<bool, Located<Error>> {
        let number = self.lines.count;
        let found = self.directive_parser.parse_line(line).and_then(|found| {
            if let Some(directive) = &found
                && directive.kind == DirectiveKind::Escape
            {
                self.ast.escape_token = match directive.value.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    other => return Err(Error::InvalidEscapeToken(other.to_owned())),
                };
            }
            Ok(found)
        });
        match found {
            Ok(found) => {
                let is_one = found.is_some();
                self.ast.directives.extend(found);
                Ok(is_one)
            }
            // Upstream tells clients the line before, which of the first line is none at all.
            Err(error) => Err(Located::new(error, vec![Range::line(number)], position(number, 0))),
        }
    }

    fn comment(&mut self, line: &str) {
        // Only the first byte is left out: that of an indented comment is not `#`.
        let comment = line.char_indices().nth(1).map_or("", |(at, _)| &line[at..]).trim();
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
    }

    /// Adds the lines that continue `line`.
    fn joined(&mut self, mut line: String, source: &mut SourceMap) -> String {
        let mut has_empty = false;
        while let Some(next) = self.lines.next() {
            if next.trim_start().starts_with('#') {
                continue;
            }
            let text = next.trim_end_matches(['\r', '\n']);
            if text.trim_start().is_empty() {
                has_empty = true;
                continue;
            }
            let (piece, continues) = trim_continuation(text, self.ast.escape_token);
            source.push(line.len(), position(self.lines.count, 0));
            line.push_str(piece);
            if !continues {
                break;
            }
        }
        if has_empty {
            self.ast.warnings.push(Warning::empty_continuation(&line, self.lines.count));
        }
        line
    }

    fn instruction(&mut self, line: &str, source: SourceMap, start: u32) -> Result<(), Located<Error>> {
        let places = source.clone();
        let located = |At { error, offset }: At, end: u32| {
            Located::new(error, Range::lines(start, end), places.position(offset))
        };
        let mut node = node_from_line(line, source, self.ast.escape_token)
            .map_err(|at| located(at, self.lines.count))?;
        if line.contains("<<") && can_contain_heredocs(&node) {
            let offset = line.find("<<").unwrap_or_default();
            node.heredocs = announced(line)
                .and_then(|announced| announced.into_iter().map(|it| self.heredoc(it)).collect())
                .map_err(|error| located(At { error, offset }, self.lines.count))?;
        }
        node.start_line = start;
        node.end_line = self.lines.count;
        node.comments = std::mem::take(&mut self.comments);
        self.ast.nodes.push(node);
        Ok(())
    }

    /// Reads the lines of a here-document.
    fn heredoc(&mut self, mut heredoc: Heredoc) -> Result<Heredoc, Error> {
        while let Some(line) = self.lines.next() {
            let mut end = line.trim_end_matches(['\r', '\n']);
            if heredoc.chomp {
                end = end.trim_start_matches('\t');
            }
            if end == heredoc.name {
                return Ok(heredoc);
            }
            heredoc.content.push_str(line);
        }
        Err(Error::UnterminatedHeredoc)
    }

    fn finish(self) -> Result<Ast, Located<Error>> {
        let last = self.lines.count;
        if self.ast.nodes.is_empty() {
            let error = if self.lines.too_long { Error::LineTooLong } else { Error::NoInstructions };
            return Err(Located::new(error, vec![Range::line(last)], position(last, 0)));
        }
        if self.lines.too_long {
            let at = position(last.saturating_add(1), 0);
            return Err(Located::new(Error::LineTooLong, vec![Range::line(last)], at));
        }
        Ok(self.ast)
    }
}

/// The line without the escape character at its end, and whether there was one, so that the next line
/// continues it. An escaped one is part of the line.
fn trim_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

fn can_contain_heredocs(node: &Node) -> bool {
    let node = match &node.args {
        Args::Trigger(trigger) => trigger,
        _ => node,
    };
    takes_heredocs(&node.keyword) && !node.json
}

fn position(line: u32, column: usize) -> Position {
    Position { line, character: u32::try_from(column).unwrap_or(u32::MAX) }
}
