use std::sync::Arc;

use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_dockerfile2llb::{ConvertOptions, Converted, Settings, to_llb};
use buildkit_frontend_dockerfile_parser::detect_syntax;
use buildkit_frontend_dockerui::{DockerUi, EntryPoint, Options, PlatformBuild};
use buildkit_frontend_gateway_client::{GatewayClient, GatewayRef, GatewayResult, RemoteError, SolveRequest};
use buildkit_solver_result::Refs;
use buildkit_util_ocispec::Platform;

use crate::surroundings::Build;
use crate::warnings::Warnings;
use crate::{caps, explain, forward, requests, source};

/// What graphs call the content of the file.
pub(crate) const LANGUAGE: &str = "Dockerfile";
const SYNTAX: &str = "build-arg:BUILDKIT_SYNTAX";

/// Builds the Dockerfile that the user of a client has, or tells about it.
pub(crate) async fn build(client: Arc<dyn GatewayClient>) -> Result<GatewayResult, RemoteError> {
    let ui = Arc::new(DockerUi::new(client.clone())?);
    let opts = &client.build_opts().opts;
    let supported = caps::require(opts.get("frontend.caps").map_or("", String::as_str))?;
    let file = match ui.read_entrypoint(LANGUAGE).await {
        Ok(file) => Arc::new(file),
        Err(error) => return Err(explain::missing_file(&ui, error).await),
    };
    // Who was told the command line is the frontend that the file names already.
    if !opts.contains_key("cmdline") {
        if let Some(command_line) = opts.get(SYNTAX) {
            let image = command_line.trim().split(' ').next().unwrap_or_default();
            return forward::forward(&*client, image, command_line).await.map_err(|mut error| {
                if !source::has_lines(&error) {
                    error.message = format!("failed with {SYNTAX} = {command_line}: {}", error.message);
                }
                error
            });
        }
        if let Some(syntax) = detect_syntax(file.data()) {
            return forward::forward(&*client, &syntax.value, &syntax.command_line).await.map_err(|error| {
                if source::has_lines(&error) {
                    return error;
                }
                source::add_lines(error, &file.info, &syntax.ranges)
            });
        }
    }
    supported?;

    let options = convert_options(&ui, &file);
    if let Some(request) = ui.subrequest()? {
        return requests::answer(request, &file, options).await;
    }
    let build = |platform: Option<Platform>, index: usize| {
        let (ui, file, options) = (ui.clone(), file.clone(), options.clone());
        async move { build_platform(&ui, &file, options, platform, index).await }
    };
    ui.build(build).await
}

/// Builds for one platform; the first one tells what the linter finds.
async fn build_platform(
    ui: &DockerUi,
    file: &EntryPoint,
    options: ConvertOptions,
    platform: Option<Platform>,
    index: usize,
) -> Result<PlatformBuild, RemoteError> {
    let warnings = Warnings::default();
    let warn = (index == 0).then(|| warnings.sink());
    let options = ConvertOptions { target_platform: platform, warn, ..options };
    let converted = to_llb(file.data(), &options).await;
    warnings.tell(file).await;
    let Converted { state, marshal, image, base_image, epoch, .. } =
        converted.map_err(|error| source::with_lines(error, &file.info))?;
    let definition = state.marshal(&marshal).map_err(|error| {
        let error = RemoteError::from_error(&error);
        RemoteError { message: format!("failed to marshal LLB definition: {}", error.message), ..error }
    })?;
    let request = SolveRequest {
        definition: Some(definition),
        cache_imports: ui.options.cache_imports.clone(),
        ..SolveRequest::default()
    };
    let tree = single(ui.client().solve(request).await?)?;
    Ok(PlatformBuild { tree, image, base_image, epoch })
}

pub(crate) fn single(result: GatewayResult) -> Result<Option<Arc<dyn GatewayRef>>, RemoteError> {
    match result.refs {
        Refs::Single(tree) => Ok(tree),
        Refs::Many(_) => Err(RemoteError::new(Kind::Internal, "a graph has several results")),
    }
}

fn convert_options(ui: &Arc<DockerUi>, file: &EntryPoint) -> ConvertOptions {
    let resolve_mode = ui.options.raw.get("image-resolve-mode").cloned().unwrap_or_default();
    let resolve_mode = if resolve_mode.is_empty() { "default".to_owned() } else { resolve_mode };
    ConvertOptions {
        config: Arc::new(settings(&ui.options)),
        surroundings: Arc::new(Build::new(ui.clone(), resolve_mode)),
        source_map: file.source_map.clone(),
        target_platform: None,
        warn: None,
        all_stages: false,
        budget: Arc::default(),
    }
}

fn settings(options: &Options) -> Settings {
    let options = options.clone();
    Settings {
        target: options.target,
        build_args: options.build_args,
        labels: options.labels,
        cache_id_namespace: options.cache_id_namespace,
        resolve_mode: options.image_resolve_mode,
        multi_platform: options.multi_platform,
        network: options.network,
        hostname: options.hostname,
        extra_hosts: options.extra_hosts,
        shm_size: options.shm_size,
        ulimits: options.ulimits.iter().map(|it| (it.limit, it.soft, it.hard)).collect(),
        cgroup_parent: options.cgroup_parent,
        linux_resources: options.linux_resources,
        lint: options.lint,
        build_platforms: options.build_platforms,
    }
}
