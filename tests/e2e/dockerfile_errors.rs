//! What is told of Dockerfiles that cannot be built.

use crate::dockerfiles::Context;
use crate::sandbox::Sandbox;

/// The text of a failing build.
fn failure(sandbox: &Sandbox, dockerfile: &str) -> String {
    Context::new(sandbox, "context", dockerfile).build(sandbox).run().assert_fails().text()
}

#[test]
fn c_23_errors_show_the_line_and_what_was_meant() {
    let sandbox = Sandbox::new();
    for (dockerfile, line, told) in [
        ("FROM scratch\nCOYP a /a\n", 2, "unknown instruction: COYP (did you mean COPY?)"),
        ("FROM scratch\nCOPY --form=x a /a\n", 2, "unknown flag: --form (did you mean from?)"),
        ("FROM scratch\nCOPY --chmod=999 a /a\n", 2, "it should be octal string and between 0 and 07777"),
        ("FROM busybox\nRUN --mount=type=cash,target=/c x\n", 2, "unsupported mount type \"cash\""),
        (
            "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n",
            2,
            "circular dependency",
        ),
        ("FROM scratch\nEXPOSE 80/foo\n", 2, "invalid proto: foo"),
        ("FROM UPPER\n", 1, "repository name (library/UPPER) must be lowercase"),
    ] {
        let text = failure(&sandbox, dockerfile);
        assert!(text.contains(told), "{dockerfile}{text}");
        let shown = format!("Dockerfile:{line}\n");
        assert!(text.contains(&shown), "{dockerfile}{text}");
        let marked = format!(" {line:3} | >>> {}", dockerfile.lines().nth(line - 1).expect("a line"));
        assert!(text.contains(&marked), "{dockerfile}{text}");
    }
}

#[test]
fn failing_steps_show_their_line() {
    let sandbox = Sandbox::new();
    let text = failure(&sandbox, "FROM busybox\nENV PATH=/bin\n# the step\nRUN echo before && exit 7\n");
    assert!(text.contains("exit code: 7"), "{text}");
    assert!(
        text.contains("Dockerfile:4\n") && text.contains("   4 | >>> RUN echo before && exit 7"),
        "{text}"
    );
}

#[test]
fn unknown_targets_are_named_with_the_nearest() {
    let sandbox = Sandbox::new();
    let context = Context::new(&sandbox, "context", "FROM scratch AS build\nCOPY a /\n");
    let text = context.build(&sandbox).args(["--opt", "target=biuld"]).run().assert_fails().text();
    assert!(text.contains("target stage \"biuld\" could not be found (did you mean build?)"), "{text}");
}

#[test]
fn warnings_are_told_before_errors() {
    let sandbox = Sandbox::new();
    let text = failure(&sandbox, "FROM scratch AS Upper\nCOPY missing /\n");
    let warning = text.find("StageNameCasing").unwrap_or_else(|| panic!("no warning: {text}"));
    let error = text.rfind("missing").expect("an error");
    assert!(warning < error, "{text}");
}
