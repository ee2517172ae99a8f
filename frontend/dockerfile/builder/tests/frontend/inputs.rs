//! Graphs in place of directories.

use std::collections::BTreeMap;

use buildkit_client_llb::{MarshalOptions, image};
use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_builder::DockerfileFrontend;
use buildkit_frontend_gateway_client::BuildFunction as _;
use buildkit_solver_pb::Definition;

use crate::fake::{FakeClient, Given};

async fn build(inputs: &[(&str, Definition)], opts: &[(&str, &str)]) -> Result<(), (Kind, String)> {
    let inputs = inputs.iter().map(|(name, definition)| ((*name).to_owned(), definition.clone()));
    let opts = opts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let given = Given {
        dockerfile: "FROM scratch\nCOPY --from=named /a /\n".into(),
        inputs: inputs.collect(),
        opts: opts.collect::<BTreeMap<_, _>>(),
        ..Given::default()
    };
    let result = DockerfileFrontend.build(FakeClient::new(given)).await;
    result.map(drop).map_err(|error| (error.kind, error.message))
}

#[tokio::test]
async fn graphs_are_built_from() {
    let graph = image("docker.io/library/a:latest").state().marshal(&MarshalOptions::new()).expect("a graph");
    let named = ("context:named", "input:named");
    for name in ["context", "dockerfile"] {
        assert_eq!(build(&[(name, graph.clone()), ("named", graph.clone())], &[named]).await, Ok(()));
    }
}

#[tokio::test]
async fn a4_05_graphs_that_are_none_are_refused() {
    let nil = "invalid nil input definition to definition op";
    let refused = |text: &str| Err((Kind::InvalidArgument, text.to_owned()));
    for name in ["context", "dockerfile"] {
        let failed = format!("failed to get frontend inputs: {nil}");
        assert_eq!(build(&[(name, Definition::default())], &[]).await, refused(&failed));
    }
    let named = [("context:named", "input:named")];
    let (_, text) = build(&[("named", Definition::default())], &named).await.expect_err("no graph");
    assert!(text.contains(nil), "{text}");
    let broken = Definition { def: vec![vec![0xff].into(); 2], ..Definition::default() };
    let (_, text) = build(&[("context", broken)], &[]).await.expect_err("no graph");
    assert!(text.starts_with("failed to get frontend inputs: "), "{text}");
}
