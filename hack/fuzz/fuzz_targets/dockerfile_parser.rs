//! Dockerfiles, as text.
#![no_main]

use buildkit_frontend_dockerfile_parser::{DirectiveKind, Node, detect_syntax, parse, parse_directive};

/// Words are inside their line, and their places inside the file.
fn check(node: &Node, lines: usize) {
    assert!((1..=lines).contains(&(node.end_line as usize)) && node.start_line <= node.end_line);
    for offset in node.flags.iter().map(|flag| flag.offset) {
        assert!(offset <= node.original.len());
        assert!((1..=lines).contains(&(node.position(offset).line as usize)));
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detect_syntax(bytes);
    parse_directive(DirectiveKind::Check, bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    match parse(bytes) {
        Ok(ast) => {
            ast.nodes.iter().for_each(|node| check(node, lines));
            assert!(!ast.to_string().is_empty());
        }
        Err(error) => assert!(error.position.line as usize <= lines, "{error:?}"),
    }
});
