//! Images of registries as the base of steps.

use std::collections::BTreeMap;

use buildkit_client_llb::{CacheSharing, Mount, State, image};
use buildkit_util_testutil::{Image, Layer, Registry};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, shell, together};

fn on(name: &str) -> State {
    image(name).state().env("PATH", "/bin")
}

#[test]
fn steps_run_on_pulled_images() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&Image::busybox(), "library/busybox", "latest");
    let out = sandbox.export(&shell(&on(&name), "busybox | head -1 > /out/result"));
    let first = fs_err::read_to_string(out.join("result")).expect("result of a script");
    assert!(first.contains("BusyBox"), "{first}");
    // The tree itself.
    let out = sandbox.export(&image(&name).state());
    assert!(out.join("bin/busybox").exists());
}

/// A layer is fetched when the first step needs it, after its image has been found: the image is shown as running
/// until that is done.
#[test]
fn steps_that_go_on_are_shown_as_running() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&Image::busybox(), "library/busybox", "latest");
    let built = sandbox.build(&shell(&on(&name), "echo a")).args(["--progress", "rawjson"]).run().assert_ok();
    let text = built.text();
    let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let is_open = |it: &Value| it["started"].is_string() && it["completed"].is_null();
    // By vertex, whether it runs; by part, whether it does and of what it is one.
    let (mut vertexes, mut parts) = (BTreeMap::new(), BTreeMap::new());
    let mut extracted = false;
    for message in &messages {
        for vertex in message["vertexes"].as_array().into_iter().flatten() {
            vertexes.insert(vertex["digest"].to_string(), is_open(vertex));
        }
        for part in message["statuses"].as_array().into_iter().flatten() {
            let id = part["id"].to_string();
            extracted |= id.contains("extracting");
            parts.insert((part["vertex"].to_string(), id), is_open(part));
        }
        for ((vertex, part), _) in parts.iter().filter(|(_, is_open)| **is_open) {
            assert_eq!(vertexes.get(vertex), Some(&true), "{part} goes on\n{text}");
        }
    }
    assert!(extracted, "{text}");
    for (what, is_open) in vertexes {
        assert!(!is_open, "{what} has not ended\n{text}");
    }
}

#[test]
fn layers_lie_on_each_other() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layers = [
        Layer::new().dir("d", 0o755).file("d/a", 0o644, "1").file("d/b", 0o644, "1").file("e/x", 0o600, "x"),
        Layer::new().dir("d", 0o750).file("d/a", 0o644, "2").whiteout("d/b").hardlink("d/c", "e/x"),
        Layer::new().dir("e", 0o755).opaque("e").file("e/y", 0o644, "y"),
    ];
    let image_of = Image::new("linux/amd64", &layers, json!({}));
    let name = registry.push(&image_of, "app", "v1");
    let out = sandbox.export(&image(&name).state());
    let read = |path: &str| fs_err::read_to_string(out.join(path)).ok();
    assert_eq!(read("d/a").as_deref(), Some("2"));
    assert_eq!(read("d/b"), None);
    assert_eq!(read("d/c").as_deref(), Some("x"));
    assert_eq!((read("e/x"), read("e/y").as_deref()), (None, Some("y")));
    // Only the first layers.
    let out = sandbox.export(&image(&name).layer_limit(1).state());
    assert!(out.join("d/b").exists() && !out.join("d/c").exists());
    let limit = sandbox.build(&image(&name).layer_limit(4).state()).run().assert_fails();
    assert!(limit.text().contains("layer limit 4 is greater than the number of layers in the image 3"));
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let only_arm = Image::new("linux/arm64", &[Layer::new().file("a", 0o644, "")], json!({}));
    let index = Image::index(&[only_arm]);
    let name = registry.push(&index, "arm", "latest");
    for (name, texts) in [
        (format!("{}/none:latest", registry.host()), ["not found", "none:latest"]),
        (name, ["no match for platform in manifest", "it has linux/arm64"]),
        ("127.0.0.1:1/x:latest".to_owned(), ["127.0.0.1:1", "refused"]),
    ] {
        let failed = sandbox.build(&together(&[image(&name).state(), on(&name)])).run().assert_fails();
        let text = failed.text();
        let line = text.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
        for wanted in texts {
            assert!(line.contains(wanted), "{wanted} is not in: {text}");
        }
    }
}

#[test]
fn steps_share_a_cache_directory_that_lies_on_an_image() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&Image::busybox(), "library/busybox", "latest");
    // Each waits for the other's file, which it only sees if both use one mount.
    let step = |own: &str, other: &str| {
        let script = format!(
            "cd /wd; touch {own}; n=0; while [ ! -f {other} ]; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done; touch /out/{own}"
        );
        let directory = Mount::cache("shared", CacheSharing::Shared).from(&image(&name).state());
        let run = on(&name).run().args(["/bin/sh", "-c", &script]).mount("/wd", directory);
        run.mount("/out", Mount::scratch()).done().mount("/out").expect("a mount with this target")
    };
    let out = sandbox.export(&together(&[step("one", "two"), step("two", "one")]));
    assert!(out.join("one").exists() && out.join("two").exists());
}

#[test]
fn a_daemon_that_pulled_leaves_no_mounts() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&Image::busybox(), "library/busybox", "latest");
    sandbox.export(&shell(&on(&name), "true > /out/result"));
    // Its mounts end with the last who has its services: what a source keeps must not keep them.
    assert!(sandbox.daemon.stop().success());
    let left = sandbox.daemon.census();
    assert!(left.mounts.is_empty(), "{left:?}");
}
