//! Caches that builds write to registries and to directories of clients, and look into there.

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

/// In all forms; by tag, and by digest; and a client whose directory lost a layer runs the step.
#[test]
fn directories_of_clients_are_caches() {
    let writer = Sandbox::new();
    let dir = writer.path("cache");
    let dest = dir.display();
    for (number, form) in [
        "",
        "image-manifest=false,",
        "oci-mediatypes=false,",
        "compression=zstd,force-compression=true,",
        "compression=uncompressed,force-compression=true,tag=other,",
    ]
    .into_iter()
    .enumerate()
    {
        // Steps of their own, as else the cache of one form would be that of another.
        let step =
            shell(&base(), &format!("echo {number} && cat /proc/sys/kernel/random/uuid > /out/result"));
        let export = format!("type=local,{form}mode=max,dest={dest}");
        let made = result(&writer, writer.build(&step).args(["--export-cache", &export]));
        let tag = if form.contains("tag=") { "other" } else { "latest" };
        let reader = Sandbox::new();
        let import = format!("type=local,src={dest},tag={tag}");
        let run = reader.build(&step).args(["--import-cache", &import]);
        assert_eq!(result(&reader, run), made, "{form:?}");
        let index = fs_err::read(dir.join("index.json")).expect("an index");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
        let of_tag = |manifest: &&serde_json::Value| {
            manifest["annotations"]["org.opencontainers.image.ref.name"] == tag
        };
        let manifest =
            index["manifests"].as_array().expect("manifests").iter().find(of_tag).expect("the tag");
        let digest = manifest["digest"].as_str().expect("a digest");
        let reader = Sandbox::new();
        let import = format!("type=local,src={dest},digest={digest}");
        let run = reader.build(&step).args(["--import-cache", &import]);
        assert_eq!(result(&reader, run), made, "{form:?}");
    }
    // What is not there is no cache, and no error.
    let reader = Sandbox::new();
    let import = format!("type=local,src={}", reader.path("nothing").display());
    result(&reader, reader.build(&unique()).args(["--import-cache", &import]));
    // A cache that lost its layers is no reason to fail either.
    let step = unique();
    let export = format!("type=local,mode=max,reset=true,dest={dest}");
    let made = result(&writer, writer.build(&step).args(["--export-cache", &export]));
    let blobs = dir.join("blobs/sha256");
    let lost = |path: &std::path::Path| !fs_err::read(path).expect("a blob").starts_with(b"{");
    let mut count = 0;
    for entry in fs_err::read_dir(&blobs).expect("blobs") {
        let path = entry.expect("an entry").path();
        if lost(&path) {
            fs_err::remove_file(&path).expect("removes");
            count += 1;
        }
    }
    assert!(count > 0, "there are no layers");
    let reader = Sandbox::new();
    let import = format!("type=local,src={dest}");
    assert_ne!(result(&reader, reader.build(&step).args(["--import-cache", &import])), made);
}
