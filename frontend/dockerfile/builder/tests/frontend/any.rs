//! Whatever a Dockerfile says, it is built or refused.

use std::collections::BTreeMap;

use crate::fake::{FakeClient, Given};
use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::BuildFunction as _;
use proptest::prelude::*;

/// Words of which most files make some sense.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "FROM",
        "scratch",
        "a",
        "AS",
        "s",
        "RUN",
        "COPY",
        "ADD",
        "--from=s",
        "--from=0",
        "--from=7",
        "--link",
        "--parents",
        "--chmod=u+x",
        "--chown=1:$A",
        "--mount=type=cache,target=/c,uid=1",
        "--mount=type=secret,id=x,env=Y",
        "--mount=from=s,target=/m",
        "--platform=$TARGETPLATFORM",
        "--platform=linux/arm",
        "ARG",
        "A=1",
        "A=$A$A",
        "ENV",
        "$A",
        "${A:-x}",
        "${A##*",
        "WORKDIR",
        "/w",
        "../..",
        "C:\\x",
        "ONBUILD",
        "EXPOSE",
        "1-65535",
        "VOLUME",
        "[\"a\"]",
        "LABEL",
        "<<EOF",
        "EOF",
        "\\",
        "#",
        "check=skip=all",
        "HEALTHCHECK",
        "--interval=1s",
        "CMD",
        "USER",
        "/./",
        "*",
        "SHELL",
        "http://x/y",
        "https://x/y.git#z",
        "\u{e9}\u{0}",
        "\"",
        "'",
        "STOPSIGNAL",
        "9",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn dockerfile() -> impl Strategy<Value = String> {
    let line = prop::collection::vec(word(), 0..6).prop_map(|words| words.join(" "));
    prop::collection::vec(line, 0..12).prop_map(|lines| format!("FROM scratch AS s\n{}\n", lines.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a4_05_any_file_is_built_or_refused(file in dockerfile(), request in 0..5_usize, platforms in any::<bool>()) {
        let mut opts = BTreeMap::new();
        if let Some(request) = ["frontend.outline", "frontend.lint", "frontend.targets"].get(request) {
            opts.insert("requestid".to_owned(), (*request).to_owned());
        }
        if platforms {
            opts.insert("platform".to_owned(), "linux/amd64,linux/arm/v7".to_owned());
        }
        let image = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"OnBuild": ["COPY --from=s a /"]}});
        let images = BTreeMap::from([("docker.io/library/a:latest".to_owned(), image)]);
        let client = FakeClient::new(Given { dockerfile: file.into(), opts, images, ..Given::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        match runtime.block_on(DockerfileFrontend.build(client)) {
            Ok(result) => prop_assert!(!result.metadata.is_empty()),
            Err(error) => prop_assert!(!error.message.is_empty()),
        }
    }
}
