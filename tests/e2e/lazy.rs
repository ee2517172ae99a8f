//! Layers that a build does not need are not downloaded.
//!
//! The registry's copy of a layer is damaged without changing its size: it can be asked for and mounted, and whoever
//! downloads it fails.

use buildkit_client_llb::{FileActions, State, image, mkfile};
use buildkit_util_testutil::{Image, Layer, Registry};
use serde_json::json;

use crate::images::{build, manifest};
use crate::sandbox::Sandbox;

/// Pushes an image whose layer cannot be downloaded, and gives its name and the digest of the layer.
fn broken(registry: &Registry) -> (String, String) {
    let layers = [Layer::new().file("a", 0o644, "a".repeat(5000))];
    let name = registry.push(&Image::new("linux/amd64", &layers, json!({ "User": "1" })), "base", "v1");
    let digest =
        manifest(registry, "base", "v1")["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    let blobs = registry.data().join("docker/registry/v2/blobs/sha256");
    let file = blobs.join(&hex[..2]).join(hex).join("data");
    let size = fs_err::metadata(&file).expect("a blob").len();
    fs_err::write(&file, vec![b'x'; usize::try_from(size).expect("it is small")]).expect("damage a blob");
    (name, digest)
}

fn refused(sandbox: &Sandbox, state: &State) {
    let failed = sandbox.build(state).run().assert_fails();
    assert!(failed.text().contains("sha256:"), "{}", failed.text());
}

#[test]
fn layers_are_pushed_where_they_are_without_a_download() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let (name, layer) = broken(&registry);
    let target = format!("{}/base:copy", registry.host());
    let output = format!("type=image,name={target},push=true,annotation.a=b");
    build(&sandbox, &image(&name).state(), &[output]);
    let copy = manifest(&registry, "base", "copy");
    assert_eq!((&copy["layers"][0]["digest"], &copy["annotations"]), (&json!(layer), &json!({ "a": "b" })));
    // With a layer on top, which needs nothing of those below.
    let output = format!("type=image,name={}/base:more,push=true", registry.host());
    let more = image(&name).state();
    let own = buildkit_client_llb::scratch().file(FileActions::from(mkfile("/b", 0o644, "b")));
    build(&sandbox, &crate::sandbox::together(&[more, own]), &[output]);
    let layers = &manifest(&registry, "base", "more")["layers"];
    assert_eq!((&layers[0]["digest"], layers.as_array().map(Vec::len)), (&json!(layer), Some(2)));
    // Who needs it finds out.
    refused(&sandbox, &image(&name).state().file(FileActions::from(mkfile("/b", 0o644, "b"))));
}

#[test]
fn layers_are_mounted_from_other_repositories() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let (name, layer) = broken(&registry);
    let output = format!("type=image,name={}/team/other:v1,push=true", registry.host());
    build(&sandbox, &image(&name).state(), &[output]);
    assert_eq!(manifest(&registry, "team/other", "v1")["layers"][0]["digest"], json!(layer));
    let head = registry.request("HEAD", &format!("/v2/team/other/blobs/{layer}"), &[], &[]);
    assert_eq!(head.status, 200);
    // Another registry has none of it.
    let far = Registry::start();
    let output = format!("type=image,name={}/other:v1,push=true", far.host());
    let failed = sandbox.build(&image(&name).state()).args(["--output", &output]).run().assert_fails();
    assert!(failed.text().contains(&layer), "{}", failed.text());
}
