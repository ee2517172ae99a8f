//! A4-06: secrets are nowhere but in the step that is given them.

use std::path::Path;

use buildkit_util_testutil::Run;

use crate::dockerfiles::Context;
use crate::sandbox::Sandbox;

/// Parts of a text that is nowhere else. It is never whole in an argument or a file of ours.
const PARTS: [&str; 2] = ["canary-of-a-secret-", "7f3a51"];

fn canary(which: &str) -> String {
    format!("{}{}{which}", PARTS[0], PARTS[1])
}

/// Files of a directory, on the same file system, that have the text. What is in memory only is mounted.
fn files_with_canary(directory: &Path) -> String {
    let script = "find \"$1\" -xdev -type f -exec grep -la \"$2$3\" {} +";
    Run::new("sh").args(["-c", script, "sh"]).arg(directory).args(PARTS).run().stdout
}

const DOCKERFILE: &str = "\
    FROM scratch AS root\n\
    COPY --from=busybox / /\n\
    FROM root AS steps\n\
    ENV PATH=/bin\n\
    RUN --mount=type=secret,id=file --mount=type=secret,id=value,env=VALUE \
        --mount=type=secret,id=other,target=/given/deep/key \
        [ -n \"$VALUE\" ] && wc -c < /run/secrets/file > /size && wc -c < /given/deep/key >> /size\n\
    RUN --mount=type=secret,id=value,env=VALUE --mount=type=tmpfs,target=/dump \
        cd /dump && ulimit -c unlimited; sh -c 'kill -SEGV $$'; [ -n \"$VALUE\" ]\n\
    FROM scratch\n\
    COPY --from=steps /size /\n";

#[test]
fn a4_06_secrets_are_on_no_disk_and_in_no_key() {
    let mut sandbox = Sandbox::new();
    let context = Context::new(&sandbox, "context", DOCKERFILE);
    let results = sandbox.path("results");
    fs_err::create_dir(&results).unwrap();
    let build = |which: &str| {
        // The client has it in files and in its environment; those are not the daemon's.
        fs_err::write(sandbox.path("secret"), canary(which)).unwrap();
        let image = format!("type=oci,dest={}", results.join("image.tar").display());
        let cache = format!("type=local,dest={},mode=max", results.join("cache").display());
        let source = |id: &str| format!("id={id},src={}", sandbox.path("secret").display());
        context
            .build(&sandbox)
            .args(["--secret", &source("file"), "--secret", &source("other")])
            .args(["--secret", "id=value,env=CANARY"])
            .env("CANARY", canary(which))
            .args(["--output", &image, "--export-cache", "type=inline", "--export-cache", &cache])
            .arg("--metadata-file")
            .arg(results.join("metadata.json"))
            .run()
            .assert_ok()
            .text()
    };
    let first = build("one");
    assert!(!first.contains(&canary("")), "{first}");
    let second = build("two, which is another and longer");
    assert!(second.contains("CACHED"), "what secrets are does not count: {second}");
    assert!(!second.contains(&canary("")), "{second}");
    fs_err::create_dir(results.join("image")).unwrap();
    Run::new("tar")
        .arg("-xf")
        .arg(results.join("image.tar"))
        .arg("-C")
        .arg(results.join("image"))
        .run()
        .assert_ok();
    let blobs = |of: &str| fs_err::read_dir(results.join(of).join("blobs/sha256")).unwrap();
    for layer in blobs("image").chain(blobs("cache")) {
        let layer = layer.unwrap().path();
        // Not every blob is a layer.
        let unpacked = Run::new("sh").args(["-c", "gzip -dc < \"$1\" 2>/dev/null", "sh"]).arg(&layer).run();
        assert!(!unpacked.stdout.contains(&canary("")), "{}", layer.display());
    }
    for directory in [&sandbox.daemon.root(), &results] {
        assert_eq!(files_with_canary(directory), "", "{}", directory.display());
    }
    assert!(!sandbox.daemon.log().contains(&canary("")), "the log");
    sandbox.daemon.stop();
    assert_eq!(files_with_canary(&sandbox.daemon.root()), "", "after the end");
}

#[test]
fn a4_06_secrets_are_on_no_disk_after_a_crash() {
    let mut sandbox = Sandbox::new();
    let before = sandbox.daemon.census();
    let dockerfile = "FROM busybox\nENV PATH=/bin\n\
                      RUN --mount=type=secret,id=file --mount=type=secret,id=file,target=/other \
                      --mount=type=secret,id=value,env=VALUE [ -n \"$VALUE\" ] && \
                      ulimit -c unlimited; cat /run/secrets/file > /dev/null && echo is-running && sleep 600\n";
    let context = Context::new(&sandbox, "context", dockerfile);
    fs_err::write(sandbox.path("secret"), canary("one")).unwrap();
    let mut client = context
        .build(&sandbox)
        .arg("--secret")
        .arg(format!("id=file,src={}", sandbox.path("secret").display()))
        .args(["--secret", "id=value,env=CANARY"])
        .env("CANARY", canary("two"))
        .start();
    client.wait_for_text("is-running\n");
    assert_eq!(files_with_canary(&sandbox.daemon.root()), "", "while the step runs");
    sandbox.daemon.kill();
    assert_eq!(files_with_canary(&sandbox.daemon.root()), "", "after a crash");
    client.wait();
    sandbox.daemon.launch();
    sandbox.assert_serves("after a crash");
    // What was in memory is gone, too: nothing of it is mounted any more.
    sandbox.daemon.assert_nothing_left(&before);
    assert_eq!(files_with_canary(&sandbox.daemon.root()), "", "after the next start");
}
