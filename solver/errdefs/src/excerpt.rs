use buildkit_solver_pb::{Range, SourceInfo};

/// Lines around marked ones that are shown, when several or a single one are marked.
const CONTEXT: usize = 2;
const CONTEXT_OF_ONE: usize = 4;

/// The marked lines of a source file with a few around them, as clients print them below an error or a warning.
/// Empty when no line of the file is marked.
///
/// The lines are the file's, so the text is UTF-8 as far as the file is.
pub fn excerpt(info: &SourceInfo, ranges: &[Range]) -> Vec<u8> {
    let spans: Vec<(usize, usize)> = ranges.iter().map(span).collect();
    let lines: Vec<&[u8]> = info.data.split(|byte| *byte == b'\n').collect();
    let (Some(marked), Some(last)) =
        (spans.iter().map(|(start, _)| *start).min(), spans.iter().map(|(_, end)| *end).max())
    else {
        return Vec::new();
    };
    if marked < 1 || marked > lines.len() {
        return Vec::new();
    }
    let (mut start, mut end) = (marked, last.clamp(marked, lines.len()));
    let wanted = if start == end { CONTEXT_OF_ONE } else { CONTEXT };
    // Lines are added on both sides in turn; every turn counts for one more than it adds.
    let mut added = 0;
    while added < wanted {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end < lines.len() {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    let mut out = format!("{}:{marked}\n--------------------\n", info.filename).into_bytes();
    for (number, line) in (1..).zip(&lines).take(end).skip(start - 1) {
        let is_marked = spans.iter().any(|(start, end)| (*start..=*end).contains(&number));
        let mark = if is_marked { ">>>" } else { "   " };
        out.extend_from_slice(format!(" {number:3} | {mark} ").as_bytes());
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(b"--------------------\n");
    out
}

/// First and last line of a range; one that ends before it starts ends where it starts.
fn span(range: &Range) -> (usize, usize) {
    let line = |position: Option<buildkit_solver_pb::Position>| {
        position.map_or(0, |position| usize::try_from(position.line).unwrap_or(0))
    };
    let (start, end) = (line(range.start), line(range.end));
    (start, end.max(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit_solver_pb::Position;

    fn range(start: i32, end: i32) -> Range {
        let at = |line| Some(Position { line, character: 0 });
        Range { start: at(start), end: at(end) }
    }

    #[test]
    fn excerpts() {
        let data = (1..10).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
        let info = SourceInfo {
            filename: "Dockerfile".to_owned(),
            data: data.into_bytes().into(),
            ..SourceInfo::default()
        };
        let excerpt = |ranges: &[Range]| String::from_utf8(excerpt(&info, ranges)).expect("UTF-8");
        assert_eq!(
            excerpt(&[range(4, 4)]),
            "Dockerfile:4\n--------------------\n   2 |     line 2\n   3 |     line 3\n   4 | >>> \
             line 4\n   5 |     line 5\n   6 |     line 6\n--------------------\n"
        );
        assert_eq!(
            excerpt(&[range(1, 0), range(3, 3)]),
            "Dockerfile:1\n--------------------\n   1 | >>> line 1\n   2 |     line 2\n   3 | >>> \
             line 3\n   4 |     line 4\n--------------------\n"
        );
        assert_eq!(
            excerpt(&[range(9, 99)]),
            "Dockerfile:9\n--------------------\n   7 |     line 7\n   8 |     line 8\n   9 | >>> \
             line 9\n--------------------\n"
        );
        assert_eq!(excerpt(&[range(99, 99)]), "");
        assert_eq!(excerpt(&[range(-1, 1)]), "");
        assert_eq!(excerpt(&[]), "");
    }
}
