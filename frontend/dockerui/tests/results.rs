//! What is given back: results of platforms, answers, and warnings.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_linter::{Config, Linter, checks};
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_frontend_dockerui::{
    ContextRequest, DockerUi, PlatformBuild, Subrequest, answered, describe_requests,
};
use buildkit_frontend_gateway_client::{
    BuildOpts, GatewayClient, GatewayRef, GatewayResult, ImageConfig, ImageConfigError, MetaRequest,
    MetaResponse, ReadDir, ReadFile, RemoteError, SolveRequest, Stat, Warning,
};
use buildkit_solver_errdefs::{ParsedDetail, parse};
use buildkit_solver_pb::{Definition, SourceOp, caps};
use buildkit_solver_result::Refs;
use buildkit_util_ocispec::{DockerImage, Platform};
use bytes::Bytes;
use parking_lot::Mutex;

/// A daemon whose every tree has one Dockerfile.
struct Daemon {
    opts: BuildOpts,
    warnings: Mutex<Vec<Warning>>,
}

struct Tree(String);

fn not_wanted<T>() -> Result<T, RemoteError> {
    Err(RemoteError::new(Kind::Unimplemented, "not wanted here"))
}

#[async_trait]
impl GatewayRef for Tree {
    fn id(&self) -> &str {
        &self.0
    }

    fn definition(&self) -> Option<Arc<Definition>> {
        None
    }

    async fn evaluate(&self) -> Result<(), RemoteError> {
        Ok(())
    }

    async fn read_file(&self, file: ReadFile) -> Result<Bytes, RemoteError> {
        match file.path.as_str() {
            "Dockerfile" => Ok("from scratch as Base\n".into()),
            _ => Err(RemoteError::new(Kind::NotFound, "no such file")),
        }
    }

    async fn read_dir(&self, _: ReadDir) -> Result<Vec<Stat>, RemoteError> {
        not_wanted()
    }

    async fn stat_file(&self, _: &str) -> Result<Stat, RemoteError> {
        not_wanted()
    }
}

#[async_trait]
impl GatewayClient for Daemon {
    fn build_opts(&self) -> &BuildOpts {
        &self.opts
    }

    async fn solve(&self, _: SolveRequest) -> Result<GatewayResult, RemoteError> {
        Ok(GatewayResult::single(Some(Arc::new(Tree("solved".to_owned())))))
    }

    async fn resolve_image_config(
        &self,
        image: &str,
        _: MetaRequest,
    ) -> Result<ImageConfig, ImageConfigError> {
        let updated = match image {
            "docker.io/library/directory:latest" => "local://directory",
            "docker.io/library/loop:latest" => "docker-image://loop",
            "docker.io/library/nothing:latest" => "nothing",
            _ => return Ok(not_wanted()?),
        };
        let wanted = format!("docker-image://{image}");
        Err(ImageConfigError::NotAnImage { wanted, updated: updated.to_owned() })
    }

    async fn resolve_source_meta(
        &self,
        _: SourceOp,
        _: MetaRequest,
    ) -> Result<(SourceOp, MetaResponse), RemoteError> {
        not_wanted()
    }

    async fn inputs(&self) -> Result<BTreeMap<String, Definition>, RemoteError> {
        not_wanted()
    }

    async fn warn(&self, warning: Warning) -> Result<(), RemoteError> {
        self.warnings.lock().push(warning);
        Ok(())
    }
}

fn ui(opts: &[(&str, &str)]) -> (Arc<Daemon>, DockerUi) {
    let opts = opts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let daemon = Arc::new(Daemon {
        opts: BuildOpts {
            opts,
            session_id: "s".to_owned(),
            workers: Vec::new(),
            product: String::new(),
            llb_caps: caps::list().cap_set(caps::list().all()),
            caps: caps::list().cap_set([]),
        },
        warnings: Mutex::default(),
    });
    (daemon.clone(), DockerUi::new(daemon).expect("options"))
}

fn built(platform: Option<&Platform>, index: usize) -> PlatformBuild {
    let image = DockerImage {
        platform: Platform { os_version: "10.0.1".to_owned(), ..platform.cloned().unwrap_or_default() },
        ..DockerImage::default()
    };
    PlatformBuild {
        tree: Some(Arc::new(Tree(format!("tree {index}")))),
        image,
        base_image: (index == 1).then(DockerImage::default),
        epoch: (index == 0).then_some(12),
    }
}

/// The parts of a result: ids of trees by platform, keys of its metadata, and its platforms.
async fn result(opts: &[(&str, &str)]) -> (Vec<String>, Vec<String>, String) {
    let (_, ui) = ui(opts);
    let result = ui.build(|platform, index| async move { Ok(built(platform.as_ref(), index)) });
    let result = result.await.expect("a result");
    let id = |tree: &Option<Arc<dyn GatewayRef>>| tree.as_ref().map_or("", |tree| tree.id()).to_owned();
    let trees = match &result.refs {
        Refs::Single(tree) => vec![id(tree)],
        Refs::Many(trees) => {
            trees.iter().map(|(platform, tree)| format!("{platform} {}", id(tree))).collect()
        }
    };
    let platforms = String::from_utf8(result.metadata["refs.platforms"].to_vec()).expect("JSON");
    (trees, result.metadata.into_keys().collect(), platforms)
}

#[tokio::test]
async fn one_platform_is_a_single_result() {
    let (trees, keys, platforms) = result(&[("platform", "linux/arm64")]).await;
    assert_eq!(trees, ["tree 0"]);
    assert_eq!(keys, ["containerimage.config", "refs.platforms", "source.date.epoch"]);
    assert_eq!(
        platforms,
        r#"{"Platforms":[{"ID":"linux/arm64","Platform":{"architecture":"arm64","os":"linux"}}]}"#
    );
    let native = Platform::native();
    let (trees, _, platforms) = result(&[]).await;
    assert_eq!(trees, ["tree 0"]);
    assert!(platforms.contains(&format!("\"ID\":\"{native}\"")), "{platforms}");
}

#[tokio::test]
async fn several_platforms_are_a_result_by_platform() {
    let (trees, keys, platforms) = result(&[("platform", "linux/arm,windows/amd64")]).await;
    assert_eq!(trees, ["linux/arm/v7 tree 0", "windows/amd64 tree 1"]);
    assert_eq!(
        keys,
        [
            "containerimage.base.config/windows/amd64",
            "containerimage.config/linux/arm/v7",
            "containerimage.config/windows/amd64",
            "refs.platforms",
            "source.date.epoch/linux/arm/v7",
        ]
    );
    assert_eq!(
        platforms,
        concat!(
            r#"{"Platforms":[{"ID":"linux/arm/v7","Platform":{"architecture":"arm","os":"linux","variant":"v7"}},"#,
            r#"{"ID":"windows/amd64","Platform":{"architecture":"amd64","os":"windows","os.version":"10.0.1"}}]}"#
        )
    );
    let (trees, ..) = result(&[("platform", "linux/arm64"), ("multi-platform", "true")]).await;
    assert_eq!(trees, ["linux/arm64 tree 0"]);
}

#[tokio::test]
async fn the_build_of_a_platform_fails_all() {
    let (_, ui) = ui(&[("platform", "linux/arm,linux/amd64")]);
    let result = ui.build(|platform, index| async move {
        match index {
            0 => Ok(built(platform.as_ref(), index)),
            _ => not_wanted(),
        }
    });
    assert_eq!(result.await.map(|_| ()).expect_err("the second fails").message, "not wanted here");
}

#[test]
fn subrequests_are_known() {
    let of = |name: &str| ui(&[("requestid", name)]).1.subrequest();
    assert_eq!(ui(&[]).1.subrequest(), Ok(None));
    assert_eq!(of("frontend.subrequests.describe"), Ok(Some(Subrequest::Describe)));
    assert_eq!(of("frontend.lint"), Ok(Some(Subrequest::Lint)));
    let error = of("frontend.other").expect_err("not known");
    assert_eq!(error.message, "unsupported request frontend.other");
    let detail = error.details.first().and_then(parse);
    assert_eq!(detail, Some(ParsedDetail::Subrequest("frontend.other".to_owned())));
    let result = answered(describe_requests());
    assert!(matches!(result.refs, Refs::Single(None)));
    assert!(result.metadata.contains_key("result.json"));
}

#[tokio::test]
async fn warnings_are_shown_at_the_step_that_read_the_file() {
    let (daemon, ui) = ui(&[]);
    let entry = ui.read_entrypoint("Dockerfile").await.expect("an entry point");
    let (sender, warnings) = std::sync::mpsc::channel();
    let linter = Linter::new(Config::default(), move |warning| sender.send(warning).expect("is read"));
    linter.report(checks::stage_name_casing("Base"), &[Range::line(1)]);
    entry.warn(&warnings.recv().expect("a warning")).await.expect("is taken");
    let warnings = daemon.warnings.lock();
    let warning = warnings.first().expect("a warning");
    let map = &entry.info;
    let read_by = map.definition.as_ref().expect("a graph").def.first().expect("an operation");
    assert_eq!(warning.vertex, buildkit_util_cachedigest::Digest::sha256(read_by));
    assert_eq!(warning.level, 1);
    assert_eq!(warning.short, "StageNameCasing: Stage name 'Base' should be lowercase (line 1)");
    assert_eq!(warning.detail, ["Stage names should be lowercase"]);
    assert_eq!(warning.url, "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/");
    let source = warning.source_info.as_ref().expect("the file");
    assert_eq!((source.filename.as_str(), source.language.as_str()), ("Dockerfile", "Dockerfile"));
    assert_eq!(source.data, "from scratch as Base\n");
    let range = warning.ranges.first().expect("the line");
    assert_eq!((range.start.line, range.start.character, range.end.line), (1, 0, 1));
}

#[tokio::test]
async fn images_in_whose_place_something_else_comes_are_contexts_of_that_kind() {
    let load = async |input: &str| {
        let (_, ui) = ui(&[("context:base", input)]);
        let context =
            ui.named_context("base", ContextRequest::default()).expect("a name").expect("a context");
        context.load().await.map(|tree| (tree.image.is_some(), tree.directory.is_some()))
    };
    assert_eq!(load("docker-image://directory").await.expect("a directory"), (false, true));
    let error = load("docker-image://loop").await.expect_err("for ever");
    assert_eq!(
        error.message,
        "context recursion limit exceeded; this may indicate a cycle in the provided source policies: \
         docker-image://loop"
    );
    let error = load("docker-image:nothing").await.expect_err("no source");
    assert_eq!(error.message, "could not parse ref: nothing");
}
