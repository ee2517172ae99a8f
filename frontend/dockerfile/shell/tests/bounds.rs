//! What hostile words may cost.

use buildkit_frontend_dockerfile_shell::{
    Cause, Lex, MAX_NESTING, MAX_TOTAL_EXPANSION, MAX_WORD_EXPANSION, Variables,
};
use proptest::prelude::*;

fn cause(lex: &Lex, word: &str, env: &Variables) -> Cause {
    match lex.process_word(word, env) {
        Ok(expansion) => panic!("{word:.40} expands to {} bytes", expansion.result.len()),
        Err(error) => error.cause,
    }
}

/// Each variable holds the one before twice: thirty of them would be a gigabyte.
#[test]
fn a4_05_variables_that_double_end_in_an_error() {
    let lex = Lex::new('\\');
    let mut value = "x".repeat(16);
    let failed = (0..30).find_map(|_| {
        let env = Variables::from_iter([("a", value.as_str())]);
        match lex.process_word("$a${a}", &env) {
            Ok(expansion) => {
                value = expansion.result;
                None
            }
            Err(error) => Some(error.cause),
        }
    });
    assert_eq!(failed, Some(Cause::TooLarge { limit: MAX_WORD_EXPANSION }));
    assert!(value.len() <= MAX_WORD_EXPANSION);
}

#[test]
fn a4_05_many_large_words_end_in_an_error() {
    let lex = Lex::new('\\');
    let env = Variables::from_iter([("a", "x".repeat(MAX_WORD_EXPANSION))]);
    let words = (0..100).take_while(|_| lex.clone().process_word("$a", &env).is_ok()).count();
    assert_eq!(words, MAX_TOTAL_EXPANSION / MAX_WORD_EXPANSION);
    assert_eq!(cause(&lex, "$a", &env), Cause::TooLarge { limit: MAX_TOTAL_EXPANSION });
    assert!(lex.process_word("without any", &env).is_ok());
}

#[test]
fn a4_05_replacements_are_counted() {
    let env = Variables::from_iter([("a", "x".repeat(5000)), ("b", "$0".repeat(5000))]);
    let lex = Lex::new('\\');
    for word in ["${a//?/$a}", "${a//*/$b}", "${a//x/$b$b}"] {
        assert_eq!(cause(&lex, word, &env), Cause::TooLarge { limit: MAX_WORD_EXPANSION }, "{word}");
    }
}

#[test]
fn a4_05_large_patterns_are_not_sought_in_large_values() {
    let env = Variables::from_iter([("a", "x".repeat(1 << 20)), ("p", "*y".repeat(1 << 10))]);
    assert!(matches!(cause(&Lex::new('\\'), "${a##$p}", &env), Cause::TooMuchMatching { .. }));
}

/// None of them is large, but making each pattern ready is work too.
#[test]
fn a4_05_many_patterns_end_in_an_error() {
    let env = Variables::from_iter([("a", "x"), ("p", &"?".repeat(8_000))]);
    let lex = Lex::new('\\');
    for operator in ["#", "/"] {
        let word = format!("${{a{operator}$p{}}}", if operator == "/" { "/" } else { "" });
        assert!(Lex::new('\\').process_word(&word, &env).is_ok(), "{word}");
        let words = (0..1000).take_while(|_| lex.clone().process_word(&word, &env).is_ok()).count();
        assert!(words < 20, "{words} of {word}");
        assert!(matches!(cause(&lex, &word, &env), Cause::TooMuchMatching { .. }));
    }
    assert!(lex.process_word("$a and ${b:-c}", &env).is_ok());
}

#[test]
fn errors_know_what_was_not_set() {
    let env = Variables::from_iter([("a", "x")]);
    for (word, unmatched) in
        [("${a:x}", &[][..]), ("$b ${c:x} $d", &["b", "c"]), ("${b:-$c", &["c"]), ("$b'", &["b"])]
    {
        let error = Lex::new('\\').process_word(word, &env).expect_err("refused");
        assert!(error.unmatched.iter().map(String::as_str).eq(unmatched.iter().copied()), "{error:?}");
    }
}

#[test]
fn a4_05_nesting_is_limited() {
    let env = Variables::default();
    let nested = |depth: usize| format!("{}x{}", "${a:-".repeat(depth), "}".repeat(depth));
    let lex = Lex::new('\\');
    assert_eq!(lex.process_word(&nested(MAX_NESTING), &env).map(|it| it.result).as_deref(), Ok("x"));
    for word in [nested(MAX_NESTING + 1), "${a:-".repeat(20_000), "${a/".repeat(20_000)] {
        assert_eq!(cause(&lex, &word, &env), Cause::TooDeep { limit: MAX_NESTING });
    }
}

#[test]
fn errors_repeat_only_the_beginning_of_large_words() {
    let word = format!("{}${{", "ü".repeat(100_000));
    let error = Lex::new('\\').process_word(&word, &Variables::default()).expect_err("not closed");
    assert_eq!((error.offset, error.word.len()), (word.len(), word.len()));
    assert!(error.to_string().len() < 2000, "{} bytes", error.to_string().len());
}

/// Words of what the syntax is made of, so that more than text comes out.
fn word() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ $?:+#%/}{'\"\\\\`<*-]",
        2 => prop_oneof![Just("${a"), Just("${b"), Just("$a"), Just("${"), Just(":-"), Just("//"), Just("\u{feff}")]
            .prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn expansion_never_panics_and_is_bounded(
        word in word(),
        value in "[a-c*?$0ü\n ]{0,20}",
        switches: [bool; 4],
        backtick: bool,
    ) {
        let mut lex = Lex::new(if backtick { '`' } else { '\\' });
        [lex.raw_quotes, lex.raw_escapes, lex.skip_process_quotes, lex.skip_unset_env] = switches;
        let env = Variables::from_iter([("a", value)]);
        match lex.process_word(&word, &env) {
            // Escape characters that stay may be doubled between quotes.
            Ok(it) => prop_assert!(it.result.len() <= 2 * word.len() + MAX_WORD_EXPANSION),
            Err(error) => prop_assert!(error.offset <= word.len() && word.is_char_boundary(error.offset)),
        }
    }

    #[test]
    fn text_without_syntax_stays(word in "[a-z0-9äö ._/=:-]*") {
        let expansion = Lex::new('\\').process_word(&word, &Variables::default());
        prop_assert_eq!(expansion.map(|it| it.result), Ok(word));
    }

    #[test]
    fn words_are_the_result_split_at_blanks(word in "[a-c $]{0,20}", value in "[a-c ]{0,8}") {
        let env = Variables::from_iter([("a", value)]);
        if let Ok(it) = Lex::new('\\').process_word(&word, &env) {
            prop_assert!(it.words.iter().map(String::as_str).eq(it.result.split_whitespace()));
        }
    }
}
