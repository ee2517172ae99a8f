//! Where errors are, what is expanded, and what any file may do.

use buildkit_frontend_dockerfile_instructions::{Error, Instruction, parse, parse_instruction};
use buildkit_frontend_dockerfile_parser::parse as read;
use buildkit_frontend_dockerfile_shell::{Lex, Variables};
use proptest::prelude::*;

fn error(file: &str) -> String {
    let ast = read(file.as_bytes()).expect("the parser takes it");
    parse(&ast).expect_err("refused").in_file("Dockerfile")
}

#[test]
fn errors_name_line_and_column() {
    for (file, expected) in [
        (
            "FROM a AS 1b\n",
            "1:11: dockerfile parse error on line 1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("RUN a\n", "1:1: no build stage in current context"),
        (
            "FROM a\n  RUN --network=none \\\n    --mont=type=cache x\n",
            "3:5: dockerfile parse error on line 2: unknown flag: --mont (did you mean mount?)",
        ),
        (
            "FROM a\nRUN \\\n --mount=from=$x \\\n b\n",
            "3:2: dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=5 CMD x\n",
            "2:13: dockerfile parse error on line 2: time: missing unit in duration \"5\"",
        ),
        (
            "FROM a\nVOLUME [\"a\", \"\"]\n",
            "2:14: dockerfile parse error on line 2: VOLUME specified can not be an empty string",
        ),
        (
            "FROM a\nCOPY a \\\n <<EOF\nEOF\n",
            "3:2: dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
        ),
        ("FROM a\nARG a =b\n", "2:7: dockerfile parse error on line 2: ARG names can not be blank"),
        (
            "FROM a\n\nONBUILD onbuild RUN x\n",
            "3:1: dockerfile parse error on line 3: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
    ] {
        assert_eq!(error(file), format!("Dockerfile:{expected}"));
    }
}

/// The only instruction of a file, with variables replaced.
fn expanded(line: &str) -> Result<Instruction, Error> {
    let env = Variables::from_list(["A=one", "B=two"]);
    let mut raw = Lex::new('\\');
    raw.skip_process_quotes = true;
    let lex = Lex::new('\\');
    let ast = read(line.as_bytes()).expect("the parser takes it");
    let mut instruction = parse_instruction(&ast.nodes[0]).map_err(|error| error.error)?;
    instruction.expand(&mut |word| Ok::<_, Error>(lex.process_word(word, &env)?.result))?;
    instruction.expand_raw(&mut |word| Ok::<_, Error>(raw.process_word(word, &env)?.result))?;
    Ok(instruction)
}

#[test]
fn only_some_words_are_expanded() {
    let Ok(Instruction::Copy(copy)) = expanded(
        "COPY --from=$A --chown=$A:$B --chmod=$A --exclude=$A $A <<x <<'y' /$B/\n\"$A\"\nx\n\"$A\"\ny\n",
    ) else {
        panic!("a copy");
    };
    assert_eq!((&*copy.from, &*copy.chown, &*copy.chmod), ("$A", "one:two", "one"));
    assert_eq!(
        (&*copy.exclude_patterns, &*copy.paths.source_paths),
        (&["$A".to_owned()][..], &["one".to_owned()][..])
    );
    assert_eq!(copy.paths.dest_path, "/two/");
    let data: Vec<&str> = copy.paths.source_contents.iter().map(|it| &*it.data).collect();
    assert_eq!(data, ["\"one\"\n", "\"$A\"\n"]);

    let Ok(Instruction::Run(run)) = expanded("RUN --mount=type=cache,target=/$A,id=$B echo $A\n") else {
        panic!("a run");
    };
    assert_eq!((&*run.mounts[0].target, &*run.mounts[0].cache_id), ("/one", "two"));
    assert_eq!(run.command.words, ["echo $A"]);

    let Ok(Instruction::Expose(expose)) = expanded("EXPOSE $B $A\n") else { panic!("ports") };
    assert_eq!(expose.ports, ["$A", "$B"]);
}

#[test]
fn options_of_mounts_are_checked_when_they_are_expanded() {
    for (mount, expected) in [
        ("type=$A", "unsupported mount type \"one\""),
        ("type=cahce,target=/x", "unsupported mount type \"cahce\" (did you mean cache?)"),
        ("type=secret,id=${", "failed to process \"${\": syntax error: missing '}'"),
        ("type=tmpfs,mode=1", "mode not allowed for \"tmpfs\" type mounts"),
    ] {
        let error = expanded(&format!("RUN --mount={mount} x\n")).expect_err("refused");
        assert_eq!(error.to_string(), expected);
    }
}

/// The same document, named often, would be in memory as often.
#[test]
fn a4_05_heredocs_that_multiply_end_in_an_error() {
    let file = |count: usize| {
        format!(
            "FROM a\nCOPY{} /x\n{}{}E\n",
            " <<E".repeat(count),
            "E\n".repeat(count - 1),
            "data\n".repeat(1 << 18)
        )
    };
    let ast = read(file(40).as_bytes()).expect("the parser takes it");
    assert!(parse(&ast).is_ok());
    assert_eq!(
        error(&file(10_000)),
        "Dockerfile:2:210: dockerfile parse error on line 2: COPY has here-documents of more than 67108864 bytes: \
         name each once, or copy a file"
    );
}

/// Looking for each of them among all of them would take minutes.
#[test]
fn a4_05_many_heredocs_are_found() {
    let names: Vec<String> = (0..50_000).map(|number| format!("E{number}")).collect();
    let (words, ends) = (names.join(" <<"), names.join("\n"));
    let words = words.replace(" <<", " \\\n<<");
    let ast = read(format!("FROM a\nCOPY <<{words} /x/\n{ends}\n").as_bytes()).expect("the parser takes it");
    let parsed = parse(&ast).expect("well formed");
    let Instruction::Copy(copy) = &parsed.stages[0].instructions[0] else { panic!("a copy") };
    assert_eq!(copy.paths.source_contents.len(), names.len());
}

/// Instructions of flags and words that fit, nearly fit or do not.
fn file() -> impl Strategy<Value = String> {
    let keywords = [
        "FROM a",
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "RUN",
        "SHELL",
        "USER",
        "VOLUME",
        "MAINTAINER",
        "# x is",
        "RUNN",
    ];
    let words = [
        "AS b",
        "CMD",
        "NONE",
        "a",
        "a=b",
        "[\"a\"]",
        "[]",
        "<<E",
        "\nE",
        "--mount=type=cache,target=$A",
        "--mount=",
        "--mount=\"type=secret\"",
        "--interval=1.5s",
        "--retries=9",
        "--link",
        "--from=x",
        "--device=a,required",
        "--platform=x",
        "\\\n",
        "80/tcp",
        "$A",
    ];
    let line = (
        proptest::sample::select(keywords.to_vec()),
        proptest::collection::vec(
            prop_oneof![
                5 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
                1 => "\\PC{0,6}",
            ],
            0..5,
        ),
    );
    let line = line.prop_map(|(keyword, words)| format!("{keyword} {}", words.join(" ")));
    proptest::collection::vec(line, 1..6).prop_map(|lines| format!("FROM x\n{}\n", lines.join("\n")))
}

proptest! {
    #[test]
    fn files_have_a_meaning_or_an_error_inside_them(file in file()) {
        let Ok(ast) = read(file.as_bytes()) else { return Ok(()) };
        let lines = file.lines().count();
        match parse(&ast) {
            Ok(parsed) => {
                let instructions = parsed.stages.iter().map(|stage| stage.instructions.len() + 1);
                prop_assert_eq!(instructions.sum::<usize>(), ast.nodes.len());
            }
            Err(error) => {
                prop_assert!((1..=lines).contains(&(error.position.line as usize)), "{:?}", error);
                prop_assert!(error.to_string().lines().count() == 1);
            }
        }
    }
}
