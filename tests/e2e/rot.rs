//! Disks that forget: blobs of the daemon that are not what they were.

use std::path::{Path, PathBuf};

use buildkit_client_llb::{FileActions, image, mkfile};
use buildkit_util_testutil::{DaemonOptions, Image, Layer, Registry, Run, rounds};
use serde_json::{Value, json};

use crate::images::{app, build, manifest};
use crate::layout::Layout;
use crate::sandbox::Sandbox;

/// The blobs that the daemon keeps, in the same order each time.
fn blobs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let dir = sandbox.daemon.root().join("runc-overlayfs/content/blobs/sha256");
    let entries = fs_err::read_dir(dir).expect("the blobs");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a blob").path()).collect();
    paths.sort();
    paths
}

fn rewrite(blob: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs_err::read(blob).expect("a blob");
    change(&mut content);
    fs_err::write(blob, content).expect("a worse blob");
}

/// What happens to a blob; the number tells where.
type Damage = fn(&Path, usize);

const DAMAGES: [(&str, Damage); 4] = [
    ("a bit", |blob, seed| {
        rewrite(blob, |content| {
            let at = seed.wrapping_mul(7919) % content.len();
            content[at] ^= 1 << (seed % 8);
        });
    }),
    ("cut", |blob, seed| {
        rewrite(blob, |content| content.truncate(seed.wrapping_mul(7919) % content.len()));
    }),
    ("zeros", |blob, _| rewrite(blob, |content| content.fill(0))),
    ("gone", |blob, _| fs_err::remove_file(blob).expect("a blob")),
];

/// Every layer of an image in a registry must be what its digest says; the registry's word is not taken for it.
fn assert_pushed(registry: &Registry, repository: &str, manifest: &Value) {
    let layers = manifest["layers"].as_array().expect("layers");
    for descriptor in layers.iter().chain([&manifest["config"]]) {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let answer = registry.request("GET", &format!("/v2/{repository}/blobs/{digest}"), &[], &[]);
        assert_eq!(answer.status, 200, "{digest}");
        assert_eq!(buildkit_util_cachedigest::Digest::sha256(&answer.body).as_str(), digest);
    }
}

#[test]
fn b_10_damaged_blobs_are_never_passed_on() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let rootfs = sandbox.path("rootfs");
    let layers = [Layer::from_dir(&rootfs), Layer::new().file("b", 0o644, "b".repeat(5000))];
    let base = registry.push(&Image::new("linux/amd64", &layers, json!({})), "base", "v1");
    let state = app(&base);
    let archive = sandbox.path("app.tar");
    let mut wanted: Option<Value> = None;
    let mut mutations = 0;
    for round in 0..usize::try_from(rounds(1)).expect("a small number") {
        for (number, (what, damage)) in DAMAGES.iter().enumerate() {
            for at_rest in [false, true] {
                let seed = round * 8 + number * 2 + usize::from(at_rest);
                // A registry that has none of it: everything is read and sent.
                let other = Registry::start();
                let repository = format!("app{seed}");
                let outputs = [
                    format!("type=oci,dest={}", archive.display()),
                    format!("type=image,name={}/{repository}:v1,push=true", other.host()),
                ];
                if wanted.is_some() {
                    if at_rest {
                        assert!(sandbox.daemon.stop().success());
                    }
                    // All of them first, then others each time.
                    let hurt = blobs(&sandbox).into_iter().enumerate();
                    for (at, blob) in hurt.filter(|(at, _)| round == 0 || (at + seed) % 3 == 0) {
                        damage(&blob, seed + at);
                        mutations += 1;
                    }
                    if at_rest {
                        sandbox.daemon.launch();
                    }
                }
                build(&sandbox, &state, &outputs);
                let pushed = manifest(&other, &repository, "v1");
                assert_pushed(&other, &repository, &pushed);
                // The archive is that of the same image, and has its blobs.
                let layout = sandbox.path("layout");
                let _ = fs_err::remove_dir_all(&layout);
                fs_err::create_dir(&layout).expect("a directory");
                Run::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&layout).run().assert_ok();
                let exported = Layout::open(&layout).manifest();
                assert_eq!(exported, pushed, "{what}, at rest: {at_rest}");
                for layer in exported["layers"].as_array().expect("layers") {
                    let digest = layer["digest"].as_str().expect("a digest");
                    let bytes = fs_err::read(layout.join("blobs").join(digest.replace(':', "/")));
                    let found = buildkit_util_cachedigest::Digest::sha256(bytes.expect("a layer"));
                    assert_eq!(found.as_str(), digest, "{what}, at rest: {at_rest}");
                }
                let layers = &exported["layers"];
                assert_eq!(
                    wanted.get_or_insert_with(|| layers.clone()),
                    layers,
                    "{what}, at rest: {at_rest}"
                );
            }
        }
    }
    assert!(mutations >= 20, "{mutations}");
    sandbox.assert_serves("with new blobs");
}

#[test]
fn blobs_are_got_from_the_daemon() {
    // Nothing collects them when the disk of the machine is full.
    let options = DaemonOptions::new().flag("--oci-worker-gc=false");
    let (sandbox, registry) = (Sandbox::with(options), Registry::start());
    let layer = Layer::new().file("a", 0o644, "text\n".repeat(300_000)).uncompressed();
    let pushed = Image::new("linux/amd64", &[layer], json!({}));
    let name = registry.push(&pushed, "base", "v1");
    let needs_files = image(&name).state().file(FileActions::from(mkfile("/b", 0o644, "b")));
    sandbox.build(&needs_files).run().assert_ok();
    let get = |digest: &str| sandbox.daemon.buildctl(["debug", "get", digest]).run();
    let manifest = pushed.document(pushed.digest());
    let digest = manifest["layers"][0]["digest"].as_str().expect("a digest");
    assert!(get(digest).assert_ok().stdout.as_bytes() == pushed.blob(digest));
    let absent = format!("sha256:{:064}", 0);
    for (digest, why) in [(absent.as_str(), absent.as_str()), ("x", "\"x\" is no digest")] {
        let failed = get(digest).assert_fails();
        assert!(failed.text().contains(why) && failed.stdout.is_empty(), "{}", failed.text());
    }
    let failed = sandbox.daemon.buildctl(["debug", "get"]).run().assert_fails();
    assert!(failed.text().contains("blob digest must be specified"), "{}", failed.text());
    // A blob that was damaged is not given away.
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    let blob = blobs(&sandbox).into_iter().find(|path| path.ends_with(hex)).expect("the layer");
    rewrite(&blob, |content| content[3] ^= 1);
    let failed = get(digest).assert_fails();
    assert!(failed.stdout.is_empty() && failed.text().contains(digest), "{}", failed.text());
}
