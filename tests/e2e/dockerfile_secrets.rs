//! A4-06: secrets are nowhere but in the step that is given them.

use std::path::{Path, PathBuf};

use buildkit_util_testutil::{Registry, Run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
        cd /dump && ulimit -c unlimited && { sh -c 'kill -SEGV $$'; grep -q \"$VALUE\" core*; } || \
        { echo \"no core dump that has it: the limit is $(ulimit -c)\"; exit 1; }\n\
    FROM scratch\n\
    COPY --from=steps /size /\n";

/// Lets a process of a step write a core file where it is, or says why none can be had.
fn allow_core_dumps() {
    let pattern = fs_err::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    assert!(
        !pattern.starts_with('|') && !pattern.contains('/'),
        "core dumps go to {pattern:?}: set kernel.core_pattern to `core` for this test"
    );
    // Steps have the limits of the daemon, which has those of this process.
    let limit = Rlimit { maximum: None, ..getrlimit(Resource::Core) };
    setrlimit(Resource::Core, limit).expect("a higher limit of core files (needs root)");
}

/// Looks for the text in blobs, also as they are when unpacked, and gives the number that could be.
fn unpacked_without_canary(blobs: impl Iterator<Item = PathBuf>) -> usize {
    let is_unpacked = |blob: &PathBuf| {
        let unpack = "gzip -dc < \"$1\" 2>/dev/null || zstd -dc < \"$1\" 2>/dev/null";
        let unpacked = Run::new("sh").args(["-c", unpack, "sh"]).arg(blob).run();
        for text in [&unpacked.stdout, &String::from_utf8_lossy(&fs_err::read(blob).unwrap()).into_owned()] {
            assert!(!text.contains(PARTS[0]), "{}", blob.display());
        }
        unpacked.status.success() && !unpacked.stdout.is_empty()
    };
    blobs.filter(is_unpacked).count()
}

/// The files of a layout of the client.
fn blobs_of(layout: &Path) -> impl Iterator<Item = PathBuf> {
    fs_err::read_dir(layout.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path())
}

/// What the registry keeps: blobs, and among them manifests.
fn blobs_in(registry: &Registry) -> Vec<PathBuf> {
    let found = Run::new("find").arg(registry.data()).args(["-type", "f", "-name", "data"]).run().assert_ok();
    found.stdout.lines().map(PathBuf::from).collect()
}

#[test]
fn a4_06_secrets_are_on_no_disk_and_in_no_key() {
    allow_core_dumps();
    let mut sandbox = Sandbox::new();
    let registry = Registry::start();
    let context = Context::new(&sandbox, "context", DOCKERFILE);
    let results = sandbox.path("results");
    fs_err::create_dir(&results).unwrap();
    let build = |which: &str| {
        // The client has it in files and in its environment; those are not the daemon's.
        fs_err::write(sandbox.path("secret"), canary(which)).unwrap();
        let image = format!("type=oci,dest={}", results.join("image.tar").display());
        let cache = format!("type=local,dest={},mode=max", results.join("cache").display());
        let remote = format!("type=registry,ref={}/cache:v1,mode=max", registry.host());
        let source = |id: &str| format!("id={id},src={}", sandbox.path("secret").display());
        context
            .build(&sandbox)
            .args(["--secret", &source("file"), "--secret", &source("other")])
            .args(["--secret", "id=value,env=CANARY"])
            .env("CANARY", canary(which))
            .args(["--output", &image, "--export-cache", "type=inline"])
            .args(["--export-cache", &cache, "--export-cache", &remote])
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
    // The image has one layer, caches of this mode those of all steps.
    assert!(unpacked_without_canary(blobs_of(&results.join("image"))) >= 1, "no layer of the image");
    assert!(unpacked_without_canary(blobs_of(&results.join("cache"))) >= 4, "no layers in the cache");
    let remote = blobs_in(&registry);
    let is_manifest = |blob: &&PathBuf| fs_err::read(blob).unwrap().starts_with(b"{");
    assert!(remote.iter().filter(is_manifest).count() >= 2, "no manifest with its configuration: {remote:?}");
    assert!(unpacked_without_canary(remote.into_iter()) >= 4, "no layers in the registry");
    let records = records(&sandbox);
    assert!(records.contains("RUN --mount=type=secret") && !records.contains(PARTS[0]), "{records}");
    for directory in [&sandbox.daemon.root(), &results, &registry.data()] {
        assert_eq!(files_with_canary(directory), "", "{}", directory.display());
    }
    assert!(!sandbox.daemon.log().contains(&canary("")), "the log");
    assert!(!registry.log().contains(PARTS[0]), "the log of the registry");
    sandbox.daemon.stop();
    assert_eq!(files_with_canary(&sandbox.daemon.root()), "", "after the end");
}

/// All that clients are told of builds that have ended.
fn records(sandbox: &Sandbox) -> String {
    let print = |args: &[&str]| sandbox.daemon.buildctl(args).run().assert_ok().text();
    let mut all = print(&["debug", "histories"]);
    all.push_str(&print(&["debug", "histories", "--format", "{{json .}}"]));
    let ids = print(&["debug", "histories", "--format", "{{.Record.Ref}}"]);
    assert_eq!(ids.lines().count(), 2, "{ids}");
    for id in ids.lines() {
        for how in [["--progress", "plain"], ["--progress", "rawjson"]] {
            all.push_str(&print(&["debug", "logs", how[0], how[1], id]));
        }
        all.push_str(&print(&["debug", "logs", "--trace", id]));
    }
    all
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
