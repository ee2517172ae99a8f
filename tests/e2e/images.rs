//! Images that builds export: pushed, pulled again, and taken by the tools that others have.

use std::path::Path;

use buildkit_api_services_control::Exporter;
use buildkit_client_llb::{FileActions, State, image, mkfile};
use buildkit_frontend_gateway_pb as gw;
use buildkit_util_testutil::{Image, Layer, Output, Registry, Run};
use serde_json::{Value, json};

use crate::client::connect;
use crate::driven::Driven;
use crate::layout::{Layout, strings};
use crate::sandbox::{Sandbox, shell};

/// A tree with a file of a step on top of what a registry has.
pub fn app(base: &str) -> State {
    app_of(base, "made")
}

/// As [`app`], with what the step writes.
fn app_of(base: &str, text: &str) -> State {
    let script = format!("mkdir /app && echo {text} > /app/made");
    let made = image(base).state().run().args(["/bin/sh", "-c", &script]).root();
    made.file(FileActions::from(mkfile("/app/name", 0o640, "app")))
}

/// `skopeo` about registries without TLS.
pub fn skopeo(command: &str, args: &[&str]) -> Output {
    let run = Run::new("skopeo").arg("--insecure-policy").arg(command);
    let tls: &[&str] = match command {
        "copy" => &["--src-tls-verify=false", "--dest-tls-verify=false"],
        _ => &["--tls-verify=false"],
    };
    run.args(tls).args(args).run().assert_ok()
}

/// Builds with these outputs.
#[track_caller]
pub fn build(sandbox: &Sandbox, state: &State, outputs: &[String]) -> Output {
    let run = sandbox.build(state);
    outputs.iter().fold(run, |run, output| run.args(["--output", output])).run().assert_ok()
}

/// The manifest that a registry has.
pub fn manifest(registry: &Registry, repository: &str, reference: &str) -> Value {
    let accept = [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ];
    let target = format!("/v2/{repository}/manifests/{reference}");
    let headers: Vec<_> = accept.iter().map(|kind| ("Accept", *kind)).collect();
    let answer = registry.request("GET", &target, &headers, &[]);
    assert_eq!(answer.status, 200, "{repository}:{reference}: {}", String::from_utf8_lossy(&answer.body));
    serde_json::from_slice(&answer.body).expect("a manifest")
}

/// The media types of the layers.
pub fn layer_types(manifest: &Value) -> Vec<String> {
    // Where there are none, the list is null.
    let layers = manifest["layers"].as_array().into_iter().flatten();
    layers.map(|layer| layer["mediaType"].as_str().expect("a type").to_owned()).collect()
}

/// An exporter of a request that no `buildctl` makes.
pub fn image_exporter(attrs: &[(&str, &str)]) -> Exporter {
    let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Exporter { r#type: "image".into(), attrs }
}

/// The tree that `umoci` makes of an image of a layout.
fn umoci(layout: &Path, tag: &str, bundle: &Path) {
    Run::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:{tag}", layout.display()))
        .arg(bundle)
        .run()
        .assert_ok();
}

#[test]
fn images_are_pushed_and_run_again() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let base = registry.push(&Image::busybox(), "library/busybox", "latest");
    let kinds = ["gzip", "zstd", "uncompressed", "estargz"];
    let suffix = |kind| match kind {
        "zstd" => "+zstd",
        "uncompressed" => "",
        _ => "+gzip",
    };
    for kind in kinds {
        for force in [false, true] {
            let tag = format!("{kind}-{force}");
            let name = format!("{}/app:{tag}", registry.host());
            let output = format!(
                "type=image,name={name},push=true,oci-mediatypes=true,compression={kind},force-compression={force}"
            );
            // Layers that exist in one form are not made in another.
            build(&sandbox, &app_of(&base, &tag), &[output]);
            let manifest = manifest(&registry, "app", &tag);
            let types = layer_types(&manifest);
            let of = |suffix| format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            // What is there already stays as it is, unless that is refused.
            let below = if force { suffix(kind) } else { "+gzip" };
            assert_eq!(types, [of(below), of(suffix(kind)), of(suffix(kind))], "{tag}");
            if kind == "estargz" {
                for layer in &manifest["layers"].as_array().expect("layers")[1..] {
                    let annotations = &layer["annotations"];
                    assert!(annotations["containerd.io/snapshot/stargz/toc.digest"].is_string(), "{layer}");
                }
            }
            let source = format!("docker://{name}");
            let inspected = skopeo("inspect", &[&source]);
            let inspected: Value = serde_json::from_str(&inspected.stdout).expect("an answer");
            assert_eq!(strings(&inspected["Layers"]).len(), 3, "{inspected}");
            let copy = sandbox.path(&format!("copy-{tag}"));
            skopeo("copy", &[&source, &format!("oci:{}:copy", copy.display())]);
            assert_eq!(Layout::open(&copy).diff_ids().len(), 3);
        }
    }
    // Somebody else pulls them.
    let other = Sandbox::new();
    for kind in kinds {
        for force in [false, true] {
            let name = format!("{}/app:{kind}-{force}", registry.host());
            let on = image(&name).state().env("PATH", "/bin");
            let script = "cat /app/made /app/name > /out/result; stat -c %a /app/name >> /out/result";
            let out = other.export(&shell(&on, script));
            let result = fs_err::read_to_string(out.join("result")).expect("result of a script");
            assert_eq!(result, format!("{kind}-{force}\napp640\n"));
        }
    }
}

#[test]
fn other_tools_take_layouts_and_archives() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let base = registry.push(&Image::busybox(), "library/busybox", "latest");
    for compression in ["gzip", "uncompressed", "estargz"] {
        let path = |name: &str| sandbox.path(&format!("{compression}-{name}")).display().to_string();
        let options = format!("name=example.com/app:v1,compression={compression},force-compression=true");
        let mut outputs = vec![
            format!("type=oci,dest={},{options}", path("oci.tar")),
            format!("type=oci,tar=false,dest={},{options}", path("oci")),
        ];
        // It has no OCI types by default, and estargz none of Docker's.
        if compression != "estargz" {
            outputs.push(format!("type=docker,dest={},{options}", path("docker.tar")));
            outputs.push(format!("type=docker,tar=false,dest={},{options}", path("docker")));
        }
        // One build has one layout.
        for output in outputs {
            build(&sandbox, &app(&base), &[output]);
        }
        let mut sources = vec![format!("oci-archive:{}", path("oci.tar")), format!("oci:{}:v1", path("oci"))];
        if compression != "estargz" {
            sources.push(format!("docker-archive:{}", path("docker.tar")));
            sources.push(format!("oci:{}:v1", path("docker")));
        }
        for (number, source) in sources.iter().enumerate() {
            skopeo("inspect", &[source]);
            let copy = path(&format!("copy-{number}"));
            skopeo("copy", &[source, &format!("oci:{copy}:v1")]);
            let bundle = path(&format!("bundle-{number}"));
            umoci(Path::new(&copy), "v1", Path::new(&bundle));
            let tree = Path::new(&bundle).join("rootfs");
            let read = |name: &str| fs_err::read_to_string(tree.join(name)).expect("a file of the image");
            assert_eq!((read("app/made"), read("app/name")), ("made\n".into(), "app".into()), "{source}");
            assert!(tree.join("bin/busybox").exists());
        }
        umoci(Path::new(&path("oci")), "v1", Path::new(&path("bundle")));
    }
}

/// containerd as others run it, with everything below one directory.
fn import_into_containerd(archives: &[String], dir: &Path) -> String {
    let root = dir.join("containerd");
    fs_err::create_dir(&root).expect("directory of containerd");
    let socket = root.join("sock");
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
         \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        root.join("root"),
        root.join("state"),
        socket,
        root.join("ttrpc")
    );
    fs_err::write(root.join("config.toml"), config).expect("configuration of containerd");
    let mut running = Run::new("containerd").arg("--config").arg(root.join("config.toml")).start();
    running.wait_for_text("successfully booted");
    let ctr = |args: &[&str]| Run::new("ctr").arg("--address").arg(&socket).args(args).run().assert_ok();
    for archive in archives {
        ctr(&["images", "import", "--snapshotter", "native", archive]);
    }
    ctr(&["images", "list"]).stdout
}

#[test]
fn containerd_imports_archives() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let base = registry.push(&Image::busybox(), "library/busybox", "latest");
    let path = |name: &str| sandbox.path(name).display().to_string();
    let outputs = [
        format!("type=oci,dest={},name=example.com/a:v1", path("oci.tar")),
        format!("type=docker,dest={},name=example.com/b:v1", path("docker.tar")),
        format!(
            "type=oci,dest={},name=example.com/c:v1,compression=zstd,force-compression=true",
            path("zstd.tar")
        ),
    ];
    build(&sandbox, &app(&base), &outputs);
    let list = import_into_containerd(&["oci.tar", "docker.tar", "zstd.tar"].map(path), &sandbox.path("."));
    for name in ["example.com/a:v1", "example.com/b:v1", "example.com/c:v1"] {
        assert!(list.contains(name), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_without_layers_are_images() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = format!("{}/nothing:v1", registry.host());
    let exporter = image_exporter(&[("name", &name), ("push", "true")]);
    // Its result has no tree.
    let build = Driven::start_with(&connect(&sandbox).await, vec![exporter]);
    build.r#return(gw::Result::default()).await.expect("a build");
    tokio::task::block_in_place(|| {
        assert_eq!(layer_types(&manifest(&registry, "nothing", "v1")), Vec::<String>::new());
        let source = format!("docker://{name}");
        skopeo("inspect", &[&source]);
        let copy = sandbox.path("copy");
        skopeo("copy", &[&source, &format!("oci:{}:v1", copy.display())]);
        umoci(&copy, "v1", &sandbox.path("bundle"));
        // It is a base as others are.
        let other = Sandbox::new();
        let on = image(&name).state().file(FileActions::from(mkfile("/a", 0o644, "a")));
        assert_eq!(fs_err::read_to_string(other.export(&on).join("a")).expect("a file"), "a");
    });
}

#[test]
fn layers_without_changes_are_kept() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let layers = [Layer::new().file("a", 0o644, "a"), Layer::new(), Layer::new().file("b", 0o644, "b")];
    let pushed = Image::new("linux/amd64", &layers, json!({ "Env": ["A=b"] }));
    let name = registry.push(&pushed, "base", "v1");
    let target = format!("{}/copy:v1", registry.host());
    build(&sandbox, &image(&name).state(), &[format!("type=image,name={target},push=true")]);
    let (from, to) = (manifest(&registry, "base", "v1"), manifest(&registry, "copy", "v1"));
    let digests = |manifest: &Value| -> Vec<String> {
        let layers = manifest["layers"].as_array().expect("layers");
        layers.iter().map(|layer| layer["digest"].as_str().expect("a digest").to_owned()).collect()
    };
    assert_eq!(digests(&from), digests(&to));
}
