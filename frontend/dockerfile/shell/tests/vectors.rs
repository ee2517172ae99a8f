//! Expansions recorded from the Go implementation; see the README beside the vectors.

use buildkit_frontend_dockerfile_shell::{Lex, Variables};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    env: Vec<String>,
    words: Vec<Vector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Vector {
    word: String,
    escape: String,
    raw_quotes: bool,
    raw_escapes: bool,
    skip_process_quotes: bool,
    skip_unset_env: bool,
    result: String,
    /// Absent where the Go implementation loses text.
    words: Option<Vec<String>>,
    matched: Vec<String>,
    unmatched: Vec<String>,
    error: String,
}

fn check(vector: &Vector, env: &Variables) -> Result<(), String> {
    let mut lex = Lex::new(vector.escape.chars().next().unwrap_or('\\'));
    lex.raw_quotes = vector.raw_quotes;
    lex.raw_escapes = vector.raw_escapes;
    lex.skip_process_quotes = vector.skip_process_quotes;
    lex.skip_unset_env = vector.skip_unset_env;
    let expansion = match lex.process_word(&vector.word, env) {
        Ok(expansion) => expansion,
        Err(error) if error.to_string() == vector.error => return Ok(()),
        Err(error) => return Err(format!("fails with {error}\n{vector:#?}")),
    };
    let same = vector.error.is_empty()
        && expansion.result == vector.result
        && vector.words.as_ref().is_none_or(|words| *words == expansion.words)
        && expansion.matched.iter().eq(&vector.matched)
        && expansion.unmatched.iter().eq(&vector.unmatched);
    if same { Ok(()) } else { Err(format!("makes {expansion:#?}\n{vector:#?}")) }
}

#[test]
fn words_expand_as_recorded() {
    let Vectors { env, words: vectors } =
        serde_json::from_str(include_str!("vectors/words.json")).expect("the vectors are well formed");
    let env = Variables::from_list(&env);
    assert!(vectors.len() > 200, "only {} vectors", vectors.len());
    let wrong: Vec<String> = vectors.iter().filter_map(|vector| check(vector, &env).err()).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), vectors.len(), wrong.join("\n"));
}
