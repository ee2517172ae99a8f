//! What any bytes may do, and where things are.

use buildkit_frontend_dockerfile_parser::{
    Args, Ast, Error, MAX_LINE, Node, Position, Range, detect_syntax, parse,
};
use proptest::prelude::*;

#[test]
fn errors_name_line_and_column() {
    for (file, expected) in [
        ("", ":1:1: file with no instructions"),
        (
            "FROM a\n  RUN x \\\n  && y\nENV  a=b c\n",
            ":4:10: Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        ("FROM a\nENV \\\n  a\n", ":3:3: ENV must have two arguments"),
        ("FROM a\nONBUILD \\\n LABEL \\\n   x\n", ":4:4: LABEL must have two arguments"),
        (
            "FROM a\n\n RUN \\\n [\"a\", \\\n  5]\n",
            ":5:3: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM a\nRUN cat <<EOF\nno end\n", ":2:9: unterminated heredoc"),
        ("# syntax=a\n# syntax=b\nFROM a\n", ":2:1: only one syntax parser directive can be used"),
        ("# escape=x\nFROM a\n", ":1:1: invalid escape token 'x' does not match ` or \\"),
    ] {
        let error = parse(file.as_bytes()).expect_err("refused");
        assert_eq!(error.in_file("Dockerfile"), format!("Dockerfile{expected}"));
        // The lines that clients show have the word that is wrong.
        let is_there = |range: &Range| range.start.line == error.position.line;
        assert!(error.locations.iter().flatten().any(is_there), "{error:?}");
    }
}

#[test]
fn lines_are_limited() {
    let file = |len: usize| format!("FROM a\nRUN {}", "x".repeat(len - 4));
    for end in ["", "\n"] {
        assert!(parse((file(MAX_LINE) + end).as_bytes()).is_ok());
        let error = parse((file(MAX_LINE + 1) + end).as_bytes()).expect_err("refused");
        assert_eq!(
            error.in_file("Dockerfile"),
            "Dockerfile:2:1: dockerfile line greater than max allowed size of 65535"
        );
    }
}

#[test]
fn a4_05_deep_and_large_files_are_bounded() {
    let deep = format!("FROM a\n{}RUN x\n", "ONBUILD ".repeat(8000));
    assert_eq!(parse(deep.as_bytes()).map(|ast| ast.nodes.len()).ok(), Some(2));
    let stages = "FROM a\n".repeat(100_000);
    assert_eq!(parse(stages.as_bytes()).map(|ast| ast.nodes.len()).ok(), Some(100_000));
    let continued = format!("FROM a\nRUN x{}", "\\\n y".repeat(100_000));
    assert_eq!(parse(continued.as_bytes()).map(|ast| ast.nodes[1].end_line).ok(), Some(100_002));
    let body = "a line of a here-document\n".repeat(200_000);
    let ast = parse(format!("FROM a\nCOPY <<EOF /x\n{body}EOF\n").as_bytes()).expect("well formed");
    assert_eq!(ast.nodes[1].heredocs[0].content, body);
    let json = format!("{{\"a\":{}{}, \"syntax\": \"x\"}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(detect_syntax(json.as_bytes()), None);
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let ast = parse(b"# \xff\nFROM a\nRUN echo \xe9\n").expect("reads it");
    assert_eq!(ast.nodes[1].original, "RUN echo \u{fffd}");
    assert_eq!(parse(b"FROM a\nENV \xff").map_err(|it| it.error), Err(Error::TwoArguments("ENV")));
}

/// The Go implementation takes their bytes for characters, and some of these for blanks; what it does not, are
/// blanks that are not ASCII.
#[test]
fn flags_keep_what_is_not_ascii() {
    let ast = parse("FROM a\nRUN --mount=target=/à,from=µ x\n".as_bytes()).expect("well formed");
    assert_eq!(ast.nodes[1].to_string(), r#"run ["--mount=target=/à,from=µ"] "x""#);
    let ast = parse("FROM a\nRUN --mount=target=/\u{2028}x\u{a0}y z\n".as_bytes()).expect("well formed");
    assert_eq!(ast.nodes[1].flags[0].text, "--mount=target=/\u{2028}x\u{a0}y");
}

#[test]
fn columns_count_byte_order_marks() {
    let ast = parse("\u{feff}\u{feff} FROM a".as_bytes()).expect("reads it");
    assert_eq!(ast.nodes[0].position(0), Position { line: 1, character: 3 });
}

/// Checks that all positions are inside the file and that words are where they say.
fn check(file: &str, ast: &Ast) -> Result<(), TestCaseError> {
    let lines: Vec<&str> = file.split('\n').collect();
    let mut last = 0;
    for node in &ast.nodes {
        prop_assert!(last < node.start_line && node.start_line <= node.end_line);
        prop_assert!(node.end_line as usize <= lines.len());
        last = node.end_line;
        check_words(node, &lines)?;
    }
    Ok(())
}

fn check_words(node: &Node, lines: &[&str]) -> Result<(), TestCaseError> {
    let mut words: Vec<_> = node.flags.iter().collect();
    match &node.args {
        Args::Words(list) => words.extend(list),
        Args::Pairs(pairs) => words.extend(pairs.iter().flat_map(|pair| [&pair.key, &pair.value])),
        Args::Trigger(trigger) => check_words(trigger, lines)?,
    }
    for word in words {
        let Position { line, character } = node.position(word.offset);
        let (line, at) = (lines.get(line as usize - 1), character as usize);
        prop_assert!(line.is_some_and(|line| at <= line.len()), "{word:?} at {at} of {line:?}");
        // The first character of the word stands there, unless it is quoted or escaped.
        let first = word.text.chars().next().filter(|c| c.is_alphanumeric());
        let there = line.and_then(|line| line.get(at..)).and_then(|rest| rest.chars().next());
        let is_marked = there.is_none_or(|c| matches!(c, '"' | '\'' | '\\' | '`'));
        prop_assert!(first.is_none() || is_marked || first == there, "{word:?} at {there:?}");
    }
    Ok(())
}

fn file() -> impl Strategy<Value = String> {
    let syntax = [
        "FROM a",
        "RUN",
        "COPY",
        "ENV",
        "ARG",
        "ONBUILD",
        "LABEL",
        "HEALTHCHECK",
        "# escape=`",
        "# syntax=x",
        "\u{feff}",
        "\n",
        "\r\n",
        "\\\n",
        "`\n",
        " ",
        "\t",
        "#",
        "--x=y",
        "<<E",
        "<<-'E'",
        "\nE\n",
        "[\"a\",\"b\"]",
        "[1]",
        "a=b",
        "\"",
        "\n",
        " ",
    ];
    let piece = prop_oneof![
        6 => proptest::sample::select(syntax.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse(&bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
        detect_syntax(&bytes);
    }

    #[test]
    fn positions_are_inside_the_file(file in file()) {
        match parse(file.as_bytes()) {
            Ok(ast) => check(&file, &ast)?,
            Err(error) => {
                let count = file.split('\n').count();
                prop_assert!(error.position.line as usize <= count, "{error:?}");
                prop_assert!(error.locations.iter().flatten().all(|range| range.end.line as usize <= count));
            }
        }
    }

    #[test]
    fn an_instruction_alone_is_read_as_in_its_file(file in file()) {
        let Ok(ast) = parse(file.as_bytes()) else { return Ok(()) };
        // Alone it would have no escape directive and no here-document.
        let alone = ast.nodes.last().filter(|node| node.heredocs.is_empty() && ast.escape_token == '\\');
        let Some(node) = alone else { return Ok(()) };
        let text = node.original.trim();
        // Neither text nor a continuation may come of what was joined.
        if text.is_empty() || text.starts_with(['#', '\u{feff}']) || text.ends_with('\\') {
            return Ok(());
        }
        match parse(text.as_bytes()) {
            Ok(alone) => prop_assert_eq!(alone.nodes[0].to_string(), node.to_string()),
            Err(error) => prop_assert_eq!(error.error, Error::UnterminatedHeredoc),
        }
    }
}
