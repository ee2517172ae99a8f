//! The whole frontend of Dockerfiles, on a bridge that builds nothing: options, an ignore file and a Dockerfile,
//! with zeros between them.
#![no_main]

#[path = "../../../frontend/dockerfile/builder/tests/frontend/fake.rs"]
#[expect(dead_code, reason = "tests give and ask more")]
mod fake;

use std::collections::BTreeMap;

use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::BuildFunction as _;
use fake::{FakeClient, Given};

const IMAGE: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"OnBuild":["COPY a /"]},
    "rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x"}]}"#;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0).collect::<Vec<_>>().into_iter().rev();
    let dockerfile = parts.next().unwrap_or_default().to_vec().into();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let opts: BTreeMap<String, String> = parts
        .next()
        .map(text)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let ignore_file = parts.next().map(text).unwrap_or_default();
    let image = serde_json::from_str(IMAGE).unwrap_or_default();
    let images = BTreeMap::from([("docker.io/library/a:latest".to_owned(), image)]);
    let client = FakeClient::new(Given { dockerfile, ignore_file, opts, images, ..Given::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _ = runtime.block_on(DockerfileFrontend.build(client));
});
