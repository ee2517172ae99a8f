//! Dockerfiles, as stages whose words are expanded.
#![no_main]

use buildkit_frontend_dockerfile_instructions::{Error, parse};
use buildkit_frontend_dockerfile_shell::{Lex, Variables};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(ast) = buildkit_frontend_dockerfile_parser::parse(bytes) else { return };
    let Ok(parsed) = parse(&ast) else { return };
    let count: usize = parsed.stages.iter().map(|stage| stage.instructions.len() + 1).sum();
    assert_eq!(count + parsed.args.len(), ast.nodes.len());
    let lex = Lex::new(ast.escape_token);
    let env = Variables::from_iter([("a", "value"), ("b", "")]);
    for mut instruction in parsed.stages.into_iter().flat_map(|stage| stage.instructions) {
        let expander = &mut |word: &str| Ok::<_, Error>(lex.process_word(word, &env)?.result);
        if instruction.expand(expander).is_ok() {
            let _ = instruction.expand_raw(expander);
        }
    }
});
