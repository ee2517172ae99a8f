//! Frontends in the process of a client, and what `buildctl` does about frontends.

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_client::gateway::{
    BuildFunction, FileRange, GatewayClient, GatewayRef, GatewayResult, ReadDir, ReadFile, RemoteError,
    SolveRequest, Warning,
};
use buildkit_client::{BuildRequest, Client, Export, Frontend};
use buildkit_client_llb::{
    Constrained as _, FileActions, MarshalOptions, State, copy, local, mkdir, mkfile, rm, scratch, symlink,
};
use buildkit_solver_errdefs::{ParsedDetail, parse};
use buildkit_util_cachedigest::Digest;
use buildkit_util_progress::SolveStatus;
use tokio::sync::mpsc;

use crate::sandbox::Sandbox;

/// A function from a closure.
struct Function<F>(F);

#[async_trait]
impl<F, Fut> BuildFunction for Function<F>
where
    F: Fn(Arc<dyn GatewayClient>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<GatewayResult, RemoteError>> + Send + 'static,
{
    async fn build(&self, client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
        self.0(client).await
    }
}

fn solve(state: &State) -> SolveRequest {
    let definition = state.marshal(&MarshalOptions::new()).expect("a graph");
    SolveRequest { definition: Some(definition), ..SolveRequest::default() }
}

fn tree_of(result: &GatewayResult) -> Arc<dyn GatewayRef> {
    result.iter().next().expect("a tree").clone()
}

/// Runs a build that a function makes; what comes of it, and its progress.
pub async fn build<F, Fut>(
    sandbox: &Sandbox,
    request: BuildRequest,
    function: F,
) -> (buildkit_client::Result<buildkit_client::BuildResponse>, Vec<SolveStatus>)
where
    F: Fn(Arc<dyn GatewayClient>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<GatewayResult, RemoteError>> + Send + 'static,
{
    let address = sandbox.daemon.address().parse().expect("an address");
    let client = Client::connect(&address, None).await.expect("a daemon");
    let (sender, mut receiver) = mpsc::channel(16);
    let gather = async {
        let mut all = Vec::new();
        while let Some(status) = receiver.recv().await {
            all.push(status);
        }
        all
    };
    tokio::join!(client.build_with(request, Arc::new(Function(function)), sender, Default::default()), gather)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_run_frontends_of_their_own() {
    let sandbox = Sandbox::new();
    fs_err::create_dir_all(sandbox.path("context")).unwrap();
    fs_err::write(sandbox.path("context/recipe"), "hello").unwrap();
    let mut request = BuildRequest {
        frontend: Frontend {
            options: [("greets".to_owned(), "world".to_owned())].into(),
            ..Frontend::default()
        },
        exports: vec![Export::directory("local", sandbox.path("out"))],
        ..BuildRequest::default()
    };
    request.local.insert("context".to_owned(), sandbox.path("context"));
    let input = solve(&scratch().file(mkfile("/given", 0o644, "by the client"))).definition.expect("a graph");
    request.frontend_inputs.insert("input".to_owned(), input);
    let greet = |client: Arc<dyn GatewayClient>| async move {
        let opts = client.build_opts();
        assert!(!opts.session_id.is_empty() && !opts.workers.is_empty());
        assert!(opts.workers[0].platforms.iter().any(|platform| platform.os == "linux"));
        opts.llb_caps.supports("source.local").expect("a capability");
        let context = tree_of(&client.solve(solve(&local("context").state())).await?);
        let recipe = context.read_file(ReadFile::whole("recipe")).await?;
        let range = Some(FileRange { offset: 1, length: 3 });
        let part = context.read_file(ReadFile { path: "recipe".to_owned(), range }).await?;
        assert_eq!(part, "ell");
        let definition = context.definition().expect("the graph");
        client
            .warn(Warning {
                vertex: Digest::sha256(&definition.def[0]),
                level: 1,
                short: "warned".into(),
                detail: Vec::new(),
                url: String::new(),
                source_info: None,
                ranges: Vec::new(),
            })
            .await?;
        let text = format!("{} {}", String::from_utf8_lossy(&recipe), opts.opts["greets"]);
        let files = FileActions::from(mkdir("/d", 0o750))
            .then(mkfile("/d/a.txt", 0o644, text))
            .then(mkfile("/d/b.log", 0o644, ""))
            .then(symlink("d/a.txt", "/link"));
        let mut result = client.solve(solve(&scratch().file(files))).await?;
        let tree = tree_of(&result);
        let directory = ReadDir { path: "d".to_owned(), include_pattern: "*.txt".to_owned() };
        let names: Vec<_> = tree.read_dir(directory).await?.into_iter().map(|stat| stat.path).collect();
        assert_eq!(names, ["a.txt"]);
        assert_eq!(tree.stat_file("d").await?.mode & 0o777, 0o750);
        let input = client.inputs().await?.remove("input");
        let input =
            tree_of(&client.solve(SolveRequest { definition: input, ..SolveRequest::default() }).await?);
        assert_eq!(input.read_file(ReadFile::whole("given")).await?, "by the client");
        result.metadata.insert("said".to_owned(), "enough".into());
        Ok(result)
    };
    let (response, progress) = build(&sandbox, request, greet).await;
    assert_eq!(response.unwrap().metadata["said"], b"enough");
    assert_eq!(fs_err::read_to_string(sandbox.path("out/link")).unwrap(), "hello world");
    let warnings: Vec<_> = progress.iter().flat_map(|status| &status.warnings).collect();
    assert_eq!(warnings.iter().map(|warning| &warning.short[..]).collect::<Vec<_>>(), [b"warned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frontends_of_clients_learn_why_steps_fail() {
    let sandbox = Sandbox::new();
    let fails = |client: Arc<dyn GatewayClient>| async move {
        let broken = solve(&scratch().file(rm("/not/there")));
        let lazy = tree_of(&client.solve(broken.clone()).await?);
        let error = lazy.evaluate().await.expect_err("there is no such file");
        let is_told =
            |told: fn(&ParsedDetail) -> bool| error.details.iter().filter_map(parse).filter(told).count();
        assert_eq!(is_told(|detail| matches!(detail, ParsedDetail::Vertex(_))), 1);
        assert_eq!(is_told(|detail| matches!(detail, ParsedDetail::Solve { .. })), 1);
        let error =
            client.solve(SolveRequest { evaluate: true, ..broken }).await.map(drop).expect_err("again");
        Err(RemoteError { message: format!("in my own words: {}", error.message), ..error })
    };
    let (response, _) = build(&sandbox, BuildRequest::default(), fails).await;
    let error = response.expect_err("fails");
    let remote = error.remote().expect("the daemon's words");
    assert!(remote.message.contains("in my own words") && remote.message.contains("not/there"), "{remote}");
    assert!(remote.details.iter().any(|detail| matches!(parse(detail), Some(ParsedDetail::Vertex(_)))));
    // A frontend that there is not.
    let unknown = |client: Arc<dyn GatewayClient>| async move {
        client.solve(SolveRequest { frontend: "nobody.v0".to_owned(), ..SolveRequest::default() }).await
    };
    let (response, _) = build(&sandbox, BuildRequest::default(), unknown).await;
    let text = response.expect_err("fails").to_string();
    assert!(text.ends_with("invalid frontend: nobody.v0"), "{text}");
}

#[test]
fn scripts_pipe_graphs_and_others_name_frontends() {
    let sandbox = Sandbox::new();
    // A graph that is piped is built, Dockerfile or not.
    fs_err::create_dir_all(sandbox.path("folder")).unwrap();
    fs_err::write(sandbox.path("folder/Dockerfile"), "FROM scratch\n").unwrap();
    let context = format!("context={}", sandbox.path("folder").display());
    let out = sandbox.path("out");
    let piped = sandbox.build(&scratch().file(mkfile("/piped", 0o644, ""))).args(["--local", &context]);
    piped.args(crate::sandbox::to_directory(&out)).run().assert_ok();
    assert!(out.join("piped").exists());
    let context_of = |folder: &str| format!("context={}", sandbox.path(folder).display());
    fs_err::create_dir_all(sandbox.path("empty")).unwrap();
    let nothing = sandbox.daemon.buildctl(["build", "--local", &context_of("empty")]).stdin(Vec::new()).run();
    let text = nothing.text();
    nothing.assert_fails();
    assert!(text.contains("Specify --frontend instead? (There is no Dockerfile in"), "{text}");
    // An error comes with its place in a source file.
    let map = buildkit_client_llb::SourceMap::new(
        "Dockerfile",
        "Dockerfile",
        b"FROM scratch\nCOPY none /\n".to_vec(),
    );
    let range = buildkit_client_llb::Range::lines(2, 2);
    let files = local("rootfs").state();
    let step = scratch().file(FileActions::from(copy(&files, "/none-of-these", "/")).location(&map, [range]));
    let failed = sandbox.build(&step).run();
    let text = failed.text();
    failed.assert_fails();
    assert!(
        text.contains(
            "Dockerfile:2\n--------------------\n   1 |     FROM scratch\n   2 | >>> COPY none /\n"
        ),
        "{text}"
    );
}
