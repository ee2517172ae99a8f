//! What scripts rely on, as far as no daemon is needed.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use buildkit_client::llb::{Constrained as _, MarshalOptions, Mount, Platform, image, merge};
use prost::Message as _;

fn buildctl(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_buildctl"))
        .args(args)
        .env_remove("BUILDKIT_HOST")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // A command that fails early reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(stdin);
    child.wait_with_output().expect("ends")
}

fn definition() -> Vec<u8> {
    let base = image("busybox").state();
    let exec = base
        .run()
        .shlex("sh -c \"echo 'a' > /out/a\"")
        .mount("/out", Mount::scratch())
        .custom_name("<name>")
        .done();
    let result = merge(&[base, exec.mount("/out").expect("an output")], Default::default());
    let options = MarshalOptions::new().platform(Platform::new("linux", "amd64"));
    result.marshal(&options).expect("marshals").encode_to_vec()
}

#[test]
fn exit_codes() {
    for (args, code) in [
        (&[][..], 0),
        (&["--debug"], 0),
        (&["--help"], 0),
        (&["-version"], 0),
        (&["debug"], 0),
        (&["help", "build"], 0),
        (&["nope"], 3),
        (&["--nope"], 1),
        (&["du", "-nope"], 1),
        (&["--addr", "nope", "du"], 1),
        (&["-addr=unix:///nowhere/at/all", "du"], 1),
        (&["build", "--frontend", "x", "--output", "dest=y"], 1),
        (&["prune-histories"], 1),
    ] {
        let output = buildctl(args, b"");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        match code {
            0 => assert!(error.is_empty() && !output.stdout.is_empty(), "{args:?}: {error}"),
            _ => assert!(error.starts_with("error: "), "{args:?}: {error}"),
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let error = String::from_utf8(buildctl(&["debug", "dump-metadata"], b"").stderr).expect("text");
    assert!(error.contains("not implemented yet") && error.contains("metadata store"), "{error}");
}

#[test]
fn records_are_asked_for_in_one_way() {
    for (args, text) in [
        (&["logs"][..], "build ref must be specified"),
        (&["ctl"], "build ref must be specified"),
        (&["ctl", "x"], "must specify one of --pin, --unpin, --delete"),
        (&["ctl", "x", "--pin", "--unpin"], "cannot specify both --pin and --unpin"),
        (&["ctl", "--delete", "--pin", "x"], "cannot specify --delete with --pin or --unpin"),
        (&["histories", "--format", "{{"], "Template ends inside of an action"),
    ] {
        let error = String::from_utf8(buildctl(&[&["debug"], args].concat(), b"").stderr).expect("text");
        assert!(error.contains(text), "{args:?}: {error}");
    }
}

#[test]
fn definitions_are_printed_as_json_lines() {
    let output = buildctl(&["debug", "dump-llb"], &definition());
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[0]["Op"]["Op"]["source"]["identifier"],
        "docker-image://docker.io/library/busybox:latest"
    );
    assert_eq!(lines[1]["Op"]["Op"]["exec"]["meta"]["args"][2], "echo 'a' > /out/a");
    assert_eq!(lines[1]["OpMetadata"]["description"]["llb.customname"], "<name>");
    assert_eq!(lines[2]["Op"]["inputs"][1]["digest"], lines[1]["Digest"]);
    assert!(text.contains("\\u003cname\\u003e"), "escaped as Go does: {text}");
}

#[test]
fn definitions_are_printed_for_graphviz() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("llb");
    fs_err::write(&path, definition()).expect("writes");
    let output = buildctl(&["debug", "dump-llb", "-dot", path.to_str().expect("text")], b"");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("digraph {\n") && text.ends_with("}\n"), "{text}");
    assert!(text.contains("label=\"sh -c echo 'a' > /out/a\" shape=\"box\""), "{text}");
    assert!(text.contains("label=\"merge\" shape=\"invtriangle\""), "{text}");
    assert_eq!(text.matches(" -> ").count(), 4);
}

#[test]
fn garbage_is_refused() {
    for (args, stdin) in [
        (&["debug", "dump-llb"][..], &b"\xff\xff\xff"[..]),
        (&["debug", "dump-llb", "/nowhere/at/all"], b""),
        (&["build"], b"\xff\xff\xff"),
        (&["build"], b""),
    ] {
        let output = buildctl(args, stdin);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stderr.starts_with(b"error: "), "{args:?}");
    }
}
