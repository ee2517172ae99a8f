//! What can be asked of exporters of images.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_api_services_control::SolveRequest;
use buildkit_client_llb::{FileActions, MarshalOptions, State, image, mkfile, scratch};
use buildkit_frontend_gateway_pb as gw;
use buildkit_util_testutil::{Image, Registry};
use serde_json::{Value, json};

use crate::client::{build_id, connect, solve_request};
use crate::driven::Driven;
use crate::images::{app, build, image_exporter, layer_types, manifest, skopeo};
use crate::layout::{Layout, strings};
use crate::sandbox::Sandbox;

fn small() -> State {
    scratch().file(FileActions::from(mkfile("/a", 0o644, "a")))
}

/// What `--metadata-file` says of a build.
fn metadata(sandbox: &Sandbox, state: &State, output: &str) -> Value {
    let file = sandbox.path("metadata.json");
    sandbox.build(state).args(["--output", output, "--metadata-file"]).arg(&file).run().assert_ok();
    serde_json::from_slice(&fs_err::read(file).expect("the metadata")).expect("the metadata is JSON")
}

/// The status of a manifest in a registry.
fn status(registry: &Registry, repository: &str, reference: &str) -> u16 {
    let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json")];
    registry.request("GET", &format!("/v2/{repository}/manifests/{reference}"), &accept, &[]).status
}

#[test]
fn metadata_files_tell_what_was_made() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let host = registry.host();
    // Several names.
    let output = format!("type=image,\"name={host}/one:v1,{host}/two/three:v2\",push=true");
    let told = metadata(&sandbox, &small(), &output);
    let (digest, config) = (&told["containerimage.digest"], &told["containerimage.config.digest"]);
    for (repository, tag) in [("one", "v1"), ("two/three", "v2")] {
        let manifest = manifest(&registry, repository, tag);
        assert_eq!(manifest["config"]["digest"], *config);
        assert_eq!(status(&registry, repository, digest.as_str().expect("a digest")), 200);
    }
    assert_eq!(told["image.name"], format!("{host}/one:v1,{host}/two/three:v2"));
    let descriptor = &told["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], *digest);
    assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert!(descriptor["size"].as_u64().is_some_and(|size| size > 0), "{told}");

    let file = sandbox.path("image.tar");
    let output = format!("type=oci,dest={}", file.display());
    let exported = metadata(&sandbox, &small(), &output);
    assert_eq!(exported["containerimage.digest"], *digest, "the same image");
    assert!(exported.get("image.name").is_none(), "{exported}");
}

#[test]
fn images_are_pushed_without_tags() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let host = registry.host();
    let output = format!("type=image,name={host}/untagged,push=true,push-by-digest=true");
    let told = metadata(&sandbox, &small(), &output);
    let digest = told["containerimage.digest"].as_str().expect("a digest");
    assert_eq!(status(&registry, "untagged", digest), 200);
    assert_eq!(status(&registry, "untagged", "latest"), 404);
    let name = format!("{host}/untagged@{digest}");
    skopeo("inspect", &["--raw", &format!("docker://{name}")]);
    assert!(sandbox.export(&image(&name).state()).join("a").exists());
    // A tag makes no sense then.
    let output = format!("type=image,name={host}/untagged:v1,push=true,push-by-digest=true");
    let failed = sandbox.build(&small()).args(["--output", &output]).run().assert_fails();
    assert!(failed.text().contains("can't push tagged ref"), "{}", failed.text());
}

#[test]
fn one_build_has_several_exporters() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let base = registry.push(&Image::busybox(), "library/busybox", "latest");
    let name = format!("{}/app", registry.host());
    let path = |name: &str| sandbox.path(name);
    let outputs = [
        format!("type=image,name={name}:gzip,push=true"),
        format!("type=image,name={name}:zstd,push=true,compression=zstd,force-compression=true"),
        format!("type=oci,dest={}", path("oci.tar").display()),
        format!(
            "type=oci,tar=false,compression=uncompressed,force-compression=true,dest={}",
            path("oci").display()
        ),
        format!("type=docker,name=example.com/app,dest={}", path("docker.tar").display()),
        format!("type=local,dest={}", path("local").display()),
        format!("type=tar,dest={}", path("tree.tar").display()),
    ];
    build(&sandbox, &app(&base), &outputs);
    let types = |tag| layer_types(&manifest(&registry, "app", tag));
    assert_eq!(types("gzip"), ["application/vnd.oci.image.layer.v1.tar+gzip"; 3]);
    assert_eq!(types("zstd"), ["application/vnd.oci.image.layer.v1.tar+zstd"; 3]);
    let layout = Layout::open(&path("oci"));
    assert_eq!(layer_types(&layout.manifest()), ["application/vnd.oci.image.layer.v1.tar"; 3]);
    // They are all of the same tree.
    for (source, tag) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let source = format!("{source}:{}", path(tag).display());
        let config: Value =
            serde_json::from_str(&skopeo("inspect", &["--config", &source]).stdout).expect("a configuration");
        assert_eq!(strings(&config["rootfs"]["diff_ids"]), layout.diff_ids(), "{source}");
    }
    assert_eq!(fs_err::read_to_string(path("local").join("app/made")).expect("a file"), "made\n");
    assert!(fs_err::metadata(path("tree.tar")).expect("a file").len() > 0);
}

#[test]
fn times_of_an_epoch_give_equal_images() {
    let registry = Registry::start();
    let base = registry.push(&Image::busybox(), "library/busybox", "latest");
    let made = || {
        let sandbox = Sandbox::new();
        let on = image(&base).state();
        let script = "mkdir -p /d/e && date > /d/unstable; touch /d/e/f && ln -s f /d/e/l && rm /d/unstable";
        let state = on.run().args(["/bin/sh", "-c", script]).root();
        let state = state.file(FileActions::from(mkfile("/now", 0o644, "now")));
        let out = sandbox.path("image");
        let told = metadata(
            &sandbox,
            &state,
            &format!(
                "type=oci,tar=false,dest={},source-date-epoch=1600000000,rewrite-timestamp=true",
                out.display()
            ),
        );
        let config = Layout::open(&out).config();
        assert_eq!(config["created"], "2020-09-13T12:26:40Z");
        told["containerimage.digest"].as_str().expect("a digest").to_owned()
    };
    let first = made();
    // Another second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(first, made());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_for_several_platforms_and_annotated() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let channel = connect(&sandbox).await;
    let name = format!("{}/multi:v1", registry.host());
    let build = Driven::start_with(
        &channel,
        vec![image_exporter(&[
            ("name", &name),
            ("push", "true"),
            ("annotation.all", "1"),
            ("annotation-manifest[linux/arm64].arm", "2"),
            ("annotation-manifest-descriptor.descriptor", "3"),
            ("annotation-manifest-descriptor[linux/amd64].amd", "4"),
            ("annotation-index.index", "5"),
            ("annotation-index-descriptor.root", "6"),
            ("annotation-index-descriptor[linux/amd64].of-a-platform", "7"),
        ])],
    );
    let of = |text: &str| {
        let state = scratch().file(FileActions::from(mkfile("/platform", 0o644, text.to_owned())));
        state.marshal(&MarshalOptions::new()).expect("a definition")
    };
    let platforms = ["linux/amd64", "linux/arm64"];
    let mut refs = BTreeMap::new();
    for platform in platforms {
        let id = build.solve(of(platform)).await.expect("a ref");
        refs.insert(platform.to_owned(), gw::Ref { id, def: None });
    }
    let mapping = json!({ "Platforms": platforms.map(|id| {
        let (os, architecture) = id.split_once('/').expect("two parts");
        json!({ "ID": id, "Platform": { "os": os, "architecture": architecture } })
    }) });
    let result = gw::Result {
        result: Some(gw::result::Result::Refs(gw::RefMap { refs: refs.into_iter().collect() })),
        metadata: [("refs.platforms".to_owned(), mapping.to_string().into())].into_iter().collect(),
        ..gw::Result::default()
    };
    let told = build.r#return(result).await.expect("a build").exporter_response;
    tokio::task::block_in_place(|| {
        // The descriptor of the index is in nothing that is pushed. An index has no platform, so each of its
        // annotations counts.
        let descriptor = STANDARD.decode(&told["containerimage.descriptor"]).expect("base 64");
        let descriptor: Value = serde_json::from_slice(&descriptor).expect("a descriptor");
        let annotations = &descriptor["annotations"];
        assert_eq!((&annotations["root"], &annotations["of-a-platform"]), (&json!("6"), &json!("7")));
        assert_eq!(descriptor["digest"], told["containerimage.digest"]);
        let index = manifest(&registry, "multi", "v1");
        assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
        assert_eq!(index["annotations"], json!({ "index": "5" }));
        let manifests = index["manifests"].as_array().expect("manifests");
        assert_eq!(manifests.len(), 2, "{index}");
        for (platform, descriptor) in platforms.iter().zip(manifests) {
            let is_arm = *platform == "linux/arm64";
            let (_, architecture) = platform.split_once('/').expect("two parts");
            assert_eq!(descriptor["platform"]["architecture"], architecture);
            let annotations =
                if is_arm { json!({ "descriptor": "3" }) } else { json!({ "descriptor": "3", "amd": "4" }) };
            assert_eq!(descriptor["annotations"], annotations);
            let manifest = manifest(&registry, "multi", descriptor["digest"].as_str().expect("a digest"));
            let annotations = if is_arm { json!({ "all": "1", "arm": "2" }) } else { json!({ "all": "1" }) };
            assert_eq!(manifest["annotations"], annotations);
        }
        let copy = sandbox.path("copy");
        skopeo("copy", &["--all", &format!("docker://{name}"), &format!("oci:{}:v1", copy.display())]);
        let root = Layout::open(&copy).root();
        assert_eq!(root["mediaType"], "application/vnd.oci.image.index.v1+json");
        // Each platform has its tree.
        let other = Sandbox::new();
        let read =
            |state: &State| fs_err::read_to_string(other.export(state).join("platform")).expect("a file");
        assert_eq!(read(&image(&name).state()), "linux/amd64");
    });
}

#[test]
fn layouts_are_annotated() {
    let sandbox = Sandbox::new();
    let out = sandbox.path("oci");
    let output = format!(
        "type=oci,tar=false,name=example.com/a:v1,dest={},annotation.one=1,annotation-manifest-descriptor.three=3",
        out.display()
    );
    build(&sandbox, &small(), &[output]);
    let layout = Layout::open(&out);
    assert_eq!(layout.manifest()["annotations"], json!({ "one": "1" }));
    let annotations = &layout.root()["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "example.com/a:v1");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "v1");
    assert_eq!(annotations["three"], "3");
    for (output, why) in [
        ("annotation-what.a=b", "unrecognized annotation type what"),
        ("annotation-index.a=b", "index annotations not supported for single platform export"),
        ("annotation-index-descriptor.a=b", "index annotations not supported for single platform export"),
    ] {
        let output = format!("type=oci,tar=false,dest={},{output}", out.display());
        let failed = sandbox.build(&small()).args(["--output", &output]).run().assert_fails();
        assert!(failed.text().contains(why), "{}", failed.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_the_exporters_have_their_media_types() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let channel = connect(&sandbox).await;
    let docker = [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ];
    let oci = [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ];
    for (version, types) in [(10, docker), (20, docker), (30, oci), (0, oci)] {
        let name = format!("{}/v:{version}", registry.host());
        let request = SolveRequest {
            r#ref: build_id(),
            definition: Some(small().marshal(&MarshalOptions::new()).expect("a definition")),
            exporters: vec![image_exporter(&[("name", &name), ("push", "true")])],
            compatibility_version: version,
            ..SolveRequest::default()
        };
        solve_request(&channel, request).await.expect("a build");
        tokio::task::block_in_place(|| {
            let manifest = manifest(&registry, "v", &version.to_string());
            let layers = layer_types(&manifest);
            let made = [&manifest["mediaType"], &manifest["config"]["mediaType"]];
            assert_eq!(made, [types[0], types[1]], "{version}");
            assert_eq!(layers, [types[2]], "{version}");
            skopeo("inspect", &[&format!("docker://{name}")]);
        });
    }
    for version in [5, 11, 40] {
        let request = SolveRequest {
            r#ref: build_id(),
            definition: Some(small().marshal(&MarshalOptions::new()).expect("a definition")),
            compatibility_version: version,
            ..SolveRequest::default()
        };
        let refused = solve_request(&channel, request).await.expect_err("no such version");
        assert!(refused.message().contains("unsupported compatibility-version"), "{refused}");
    }
}
