//! What is told of Dockerfiles that cannot be built.

use std::sync::Arc;

use buildkit_client::BuildRequest;
use buildkit_client::gateway::{GatewayClient, SolveRequest};
use buildkit_solver_errdefs::{ParsedDetail, parse};
use buildkit_util_testutil::Run;

use crate::dockerfiles::Context;
use crate::sandbox::Sandbox;

/// The text of a failing build.
fn failure(sandbox: &Sandbox, dockerfile: &str) -> String {
    Context::new(sandbox, "context", dockerfile).build(sandbox).run().assert_fails().text()
}

/// Cases of C-23, one after another, with what is expected.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/testdata/errors/cases.txt");

/// Each error has the place in the file, says what is wrong and what to do, and does so in a few lines and in words
/// of the user.
#[test]
fn c_23_errors_say_where_what_and_what_to_do() {
    let sandbox = Sandbox::new();
    let context = Context::new(&sandbox, "context", "")
        .file("app.js", "")
        .file("app.ts", "")
        .file("README.md", "")
        .file("src/main.rs", "")
        .file("src/lib.rs", "")
        .file("debug.log", "")
        .file("keep.log", "")
        .file("private/key", "")
        .file(".dockerignore", "# what stays here\n*.log\n!keep.log\n\nprivate/\n");
    fs_err::create_dir(context.path().join("empty")).expect("a folder");
    let file = fs_err::read_to_string(CASES).expect("the cases");
    let (about, cases) = file.split_once("==== ").expect("a case");
    let mut told = about.to_owned();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases.split("\n==== ") {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (dockerfile, expected) = rest.split_once("----").expect("a line of dashes");
        fs_err::write(context.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
        let built = context.build_quietly(&sandbox).run();
        if built.status.success() {
            wrong.push(format!("{name}: can be built"));
            continue;
        }
        let output = built.assert_fails().text();
        let (places, error) = places_and_error(&output);
        let text = format!("{places}{error}");
        if text.trim() != expected.trim() {
            wrong.push(format!("{name}:\n{text}"));
        }
        let faults = faults(&places, &error);
        if !faults.is_empty() {
            wrong.push(format!("{name}: {}\n{output}", faults.join(", ")));
        }
        told.push_str(&format!("==== {name}\n{dockerfile}----\n{text}"));
        count += 1;
    }
    if std::env::var_os("UPDATE_ERRORS").is_some() {
        fs_err::write(CASES, told).expect("the cases");
    }
    assert!(count >= 90, "only {count} cases");
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The lines `FILE:LINE` of what was printed, and the error.
fn places_and_error(output: &str) -> (String, String) {
    let at = output.find("error: ").unwrap_or_else(|| panic!("no error: {output}"));
    let (before, error) = output.split_at(at);
    let is_place = |line: &&str| line.starts_with("Dockerfile:");
    let places = before.lines().filter(is_place).map(|line| format!("{line}\n")).collect();
    (places, error.to_owned())
}

/// What is wrong with an error, for a user.
fn faults(places: &str, error: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |is: bool, what: &str| {
        if is {
            faults.push(what.to_owned());
        }
    };
    fault(places.is_empty(), "no place");
    fault(error.lines().count() > 3, "more than three lines");
    fault(!["hint: ", "did you mean ", "workaround"].iter().any(|hint| error.contains(hint)), "no hint");
    let is_id = |word: &str| {
        let is_plain = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        word.len() >= 20 && is_plain && word.contains(|c: char| c.is_ascii_digit())
    };
    fault(error.split(|c: char| !c.is_ascii_alphanumeric()).any(is_id), "an id or a digest");
    fault(error.contains("sha256:") || error.contains("::"), "a digest or a ref");
    fault(error.contains("rpc error") || error.contains("panicked"), "an internal text");
    faults
}

/// What is around a path that is not there may be large, deep, hidden or not to be had: the error is the same.
#[test]
fn missing_files_are_told_of_in_any_directory() {
    let sandbox = Sandbox::new();
    let context = Context::new(&sandbox, "context", "FROM scratch\nCOPY many/file-00077x /\n")
        .file("Dockerfile.dockerignore", "deep/**\n!deep/kept\n")
        .file("deep/a/b/c/d/file", "")
        .file("odd^/file", "");
    let many = context.path().join("many");
    fs_err::create_dir(&many).unwrap();
    for n in 0..3000 {
        fs_err::write(many.join(format!("file-{n:05}")), [b'x'; 4096]).unwrap();
    }
    let failure = |dockerfile: &str| {
        fs_err::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        context.build(&sandbox).run().assert_fails().text()
    };
    let text = failure("FROM scratch\nCOPY many/file-00077x /\n");
    assert!(text.contains("hint: did you mean /many/file-00077"), "{text}");
    // Names were sent, and not what is in the files.
    let files = Run::new("grep").args(["-rlE", "^x{4096}$"]).arg(sandbox.daemon.root()).run().text();
    assert_eq!(files, "", "no file was sent");
    let text = failure("FROM scratch\nCOPY deep/a/b/c/d/file /\n");
    assert!(text.contains("/deep/a/b/c/d/file is left out by Dockerfile.dockerignore:1: deep/**"), "{text}");
    let text = failure("FROM scratch\nCOPY odd^/fiel /\n");
    assert!(text.contains(": not found"), "{text}");
    let text = failure(&format!("FROM scratch\nCOPY {}x /\n", "y/".repeat(50)));
    assert!(text.contains(": not found"), "{text}");
}

/// Whoever asks for a tree of a Dockerfile is told what was meant, and where.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_drive_their_builds_are_told_of_missing_files() {
    let sandbox = Sandbox::new();
    let context = Context::new(&sandbox, "context", "FROM scratch\nCOPY app.jsx /\n").file("app.js", "");
    let mut request = BuildRequest::default();
    for name in ["context", "dockerfile"] {
        request.local.insert(name.to_owned(), context.path().to_owned());
    }
    let drive = |client: Arc<dyn GatewayClient>| async move {
        let request = SolveRequest { frontend: "dockerfile.v0".to_owned(), ..SolveRequest::default() };
        let result = client.solve(request).await?;
        let tree = result.iter().next().expect("a tree").clone();
        let error = tree.evaluate().await.expect_err("there is no such file");
        let mut details = error.details.iter().filter_map(parse);
        assert!(details.any(|detail| matches!(detail, ParsedDetail::Source { .. })));
        assert!(error.message.ends_with("\"/app.jsx\": not found\nhint: did you mean /app.js?"), "{error}");
        // Or it returns what it has not looked into.
        Ok(result)
    };
    let (response, _) = crate::frontends::build(&sandbox, request, drive).await;
    let error = response.expect_err("fails");
    let remote = error.remote().expect("the daemon's words");
    assert!(remote.message.ends_with("hint: did you mean /app.js?"), "{remote}");
    assert_eq!(remote.message.matches("hint:").count(), 1, "{remote}");
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
