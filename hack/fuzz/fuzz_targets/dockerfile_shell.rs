//! Words with variables: a byte of switches, a value up to a zero, and the word.
#![no_main]

use buildkit_frontend_dockerfile_shell::{Lex, MAX_WORD_EXPANSION, Variables};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((switches, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let (value, word) = text.split_once('\0').unwrap_or(("value", &text));
    let mut lex = Lex::new(if switches & 1 == 0 { '\\' } else { '`' });
    lex.raw_quotes = switches & 2 != 0;
    lex.raw_escapes = switches & 4 != 0;
    lex.skip_process_quotes = switches & 8 != 0;
    lex.skip_unset_env = switches & 16 != 0;
    let env = Variables::from_iter([("a", value), ("b", "")]);
    match lex.process_word(word, &env) {
        Ok(expansion) => assert!(expansion.result.len() <= 2 * word.len() + MAX_WORD_EXPANSION),
        Err(error) => assert!(word.is_char_boundary(error.offset)),
    }
});
