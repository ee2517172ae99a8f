//! Caches that builds write to registries, and look into there.

use buildkit_client_llb::{CacheSharing, Mount, State};
use buildkit_util_testutil::{Registry, Run};

use crate::sandbox::{Sandbox, base, shell, to_directory};

/// A step that gives something else each time.
fn unique() -> State {
    shell(&base(), "cat /proc/sys/kernel/random/uuid > /out/result")
}

/// A step with a directory that steps share.
fn with_directory(script: &str) -> State {
    let run = base().run().args(["/bin/sh", "-c", script]);
    let run = run.mount("/shared", Mount::cache("shared", CacheSharing::Shared));
    run.mount("/out", Mount::scratch()).done().mount("/out").expect("a mount")
}

fn result(sandbox: &Sandbox, run: Run) -> String {
    let out = sandbox.path("out");
    let _ = fs_err::remove_dir_all(&out);
    run.args(to_directory(&out)).run().assert_ok();
    fs_err::read_to_string(out.join("result")).expect("result of a step")
}

/// A cache in a registry, and what the step gave that it has.
fn written(registry: &Registry) -> (String, String) {
    let (sandbox, name) = (Sandbox::new(), format!("{}/cache:v1", registry.host()));
    let cache = format!("type=registry,ref={name},mode=max");
    let made = result(&sandbox, sandbox.build(&unique()).args(["--export-cache", &cache]));
    (name, made)
}

fn import(name: &str) -> [String; 2] {
    ["--import-cache".to_owned(), format!("type=registry,ref={name}")]
}

#[test]
fn steps_that_a_cache_has_are_not_run() {
    let registry = Registry::start();
    let (name, made) = written(&registry);
    let sandbox = Sandbox::new();
    assert_eq!(result(&sandbox, sandbox.build(&unique()).args(import(&name))), made);
    // What was loaded is known from then on.
    drop(registry);
    assert_eq!(result(&sandbox, sandbox.build(&unique())), made);
}

/// A cache may be made up: who does not name it has nothing of it.
#[test]
fn imports_serve_the_builds_that_name_them() {
    let registry = Registry::start();
    let (name, made) = written(&registry);
    let sandbox = Sandbox::new();
    // The name of the step has not the text that is waited for.
    let waiting =
        with_directory("mkfifo /shared/go && printf 'it %s\\n' waits && cat /shared/go > /out/result");
    let mut importing = sandbox.build(&waiting).args(import(&name)).start();
    importing.wait_for_text("it waits");
    assert_ne!(result(&sandbox, sandbox.build(&unique())), made);
    let end = with_directory("echo go > /shared/go && echo ended > /out/result");
    assert_eq!(result(&sandbox, sandbox.build(&end)), "ended\n");
    importing.wait().assert_ok();
}
