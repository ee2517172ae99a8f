mod attestations;
mod attrs;
pub(crate) mod gotext;
mod resources;

use std::collections::BTreeMap;
use std::net::IpAddr;

use buildkit_client_llb::{LinuxResources, Network, ResolveMode};
use buildkit_frontend_dockerfile_linter as linter;
use buildkit_frontend_gateway_client::{BuildOpts, CacheImport};
use buildkit_solver_pb::caps::FILE_BASE;
use buildkit_util_gotext::{parse_bool, quoted};
use buildkit_util_ocispec::Platform;
use buildkit_util_reference::Reference;
use serde::Deserialize;

use crate::OptionError;
pub use attestations::Attestations;
pub use attrs::UlimitOption;

/// Before the names of build arguments among options.
pub const BUILD_ARG_PREFIX: &str = "build-arg:";
const LABEL_PREFIX: &str = "label:";
const LOCAL_SESSION_PREFIX: &str = "local-sessionid:";

/// What a user wants of the build of a Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Before the ids of cache mounts, so that builds with another one have others.
    pub cache_id_namespace: String,
    /// Control group below which processes get theirs.
    pub cgroup_parent: String,
    /// Entries for the hosts file of processes.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Host name of processes.
    pub hostname: String,
    /// When an image that is there already is looked up again.
    pub image_resolve_mode: ResolveMode,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Network of processes that ask for none.
    pub network: Network,
    /// Size of `/dev/shm` in bytes; 0 is the default.
    pub shm_size: i64,
    /// The stage to build; empty is the last.
    pub target: String,
    /// Limits of processes.
    pub ulimits: Vec<UlimitOption>,
    /// Limits of what processes use.
    pub linux_resources: Option<LinuxResources>,
    /// What the linter heeds, in place of what the file says.
    pub lint: Option<linter::Config>,
    /// Caches to look results up in.
    pub cache_imports: Vec<CacheImport>,
    /// Platforms to build for; none is that of the daemon.
    pub target_platforms: Vec<Platform>,
    /// Platforms of the daemon, its own first.
    pub build_platforms: Vec<Platform>,
    /// The result is to have a tree for each platform, even if it is one.
    pub multi_platform: bool,
    /// Statements about the build that are wanted.
    pub attestations: Attestations,
    /// Stages that are built anew.
    pub no_cache: NoCache,
    /// Sessions of local directories that are not in that of the build, by name of the directory.
    pub local_sessions: BTreeMap<String, String>,
    /// All options, as another frontend is to get them.
    pub raw: BTreeMap<String, String>,
}

/// Stages that are built anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// Those with these names.
    Stages(Vec<String>),
}

impl NoCache {
    /// Whether a stage is one of them; names are alike in any case.
    pub fn contains(&self, stage: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Stages(stages) => {
                let stage = stage.to_lowercase();
                stages.iter().any(|name| name.to_lowercase() == stage)
            }
        }
    }
}

impl Options {
    /// Reads what a frontend is told when it starts.
    ///
    /// # Errors
    /// When an option makes no sense or was removed long ago, or when the daemon is too old.
    pub fn parse(build: &BuildOpts) -> Result<Self, OptionError> {
        let mut raw = build.opts.clone();
        check_support(build)?;
        // Build arguments that stand for options.
        for (argument, key) in
            [("BUILDKIT_MULTI_PLATFORM", "multi-platform"), ("BUILDKIT_SANDBOX_HOSTNAME", "hostname")]
        {
            if let Some(value) =
                raw.get(&format!("{BUILD_ARG_PREFIX}{argument}")).filter(|value| !value.is_empty())
            {
                raw.insert(key.to_owned(), value.clone());
            }
        }
        let of = |key: &str| raw.get(key).map_or("", String::as_str);
        let failed = |what: &'static str| move |error: OptionError| error.doing(what);

        let target_platforms = match of("platform") {
            "" => Vec::new(),
            text => attrs::platforms(text)?,
        };
        let worker = build.workers.first().and_then(|worker| worker.platforms.first());
        Ok(Self {
            build_platforms: vec![worker.cloned().unwrap_or_else(Platform::native)],
            image_resolve_mode: attrs::resolve_mode(of("image-resolve-mode"))?,
            extra_hosts: attrs::extra_hosts(of("add-hosts"))
                .map_err(failed("failed to parse additional hosts"))?,
            shm_size: attrs::shm_size(of("shm-size")).map_err(failed("failed to parse shm size"))?,
            ulimits: attrs::ulimits(of("ulimit")).map_err(failed("failed to parse ulimit"))?,
            linux_resources: resources::linux_resources(&raw)
                .map_err(failed("failed to parse resource limits"))?,
            network: attrs::network(of("force-network-mode"))?,
            no_cache: match raw.get("no-cache").map(String::as_str) {
                None => NoCache::Nothing,
                Some("") => NoCache::Everything,
                Some(stages) => NoCache::Stages(stages.split(',').map(str::to_owned).collect()),
            },
            multi_platform: multi_platform(of("multi-platform"), target_platforms.len())?,
            cache_imports: cache_imports(of("cache-imports"), of("cache-from"))?,
            attestations: checked_attestations(&raw)?,
            build_args: with_prefix(&raw, BUILD_ARG_PREFIX),
            labels: with_prefix(&raw, LABEL_PREFIX),
            cache_id_namespace: of("build-arg:BUILDKIT_CACHE_MOUNT_NS").to_owned(),
            cgroup_parent: of("cgroup-parent").to_owned(),
            target: of("target").to_owned(),
            hostname: of("hostname").to_owned(),
            lint: lint(&raw)?,
            local_sessions: with_prefix(&raw, LOCAL_SESSION_PREFIX),
            target_platforms,
            raw,
        })
    }
}

/// Refuses daemons that are too old, and options that were removed.
fn check_support(build: &BuildOpts) -> Result<(), OptionError> {
    const REMOVED: &str = "was removed in BuildKit 0.11";
    build
        .llb_caps
        .supports(FILE_BASE)
        .map_err(|error| OptionError::new(error).doing("needs BuildKit 0.5 or later"))?;
    if build.opts.get("override-copy-image").is_some_and(|image| !image.is_empty()) {
        return Err(OptionError::new(format!("support for \"override-copy-image\" {REMOVED}")));
    }
    let disabled = build.opts.get("build-arg:BUILDKIT_DISABLE_FILEOP");
    if disabled.and_then(|value| parse_bool(value)) == Some(true) {
        return Err(OptionError::new(format!("support for \"BUILDKIT_DISABLE_FILEOP\" build-arg {REMOVED}")));
    }
    Ok(())
}

fn with_prefix(opts: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    opts.iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
        .collect()
}

fn multi_platform(text: &str, platforms: usize) -> Result<bool, OptionError> {
    if text.is_empty() {
        return Ok(platforms > 1);
    }
    match parse_bool(text) {
        None => Err(OptionError::new(format!("invalid boolean value for multi-platform: {text}"))),
        Some(false) if platforms > 1 => {
            Err(OptionError::new("conflicting config: returning multiple target platforms is not allowed"))
        }
        Some(wanted) => Ok(wanted),
    }
}

#[derive(Deserialize)]
struct CacheEntry {
    #[serde(rename = "Type", alias = "type", default)]
    kind: Option<String>,
    #[serde(rename = "Attrs", alias = "attrs", default)]
    attrs: Option<BTreeMap<String, String>>,
}

/// Imports as JSON, and as names of images with commas between them.
fn cache_imports(json: &str, images: &str) -> Result<Vec<CacheImport>, OptionError> {
    let mut imports = Vec::new();
    if !json.is_empty() {
        let entries: Option<Vec<CacheEntry>> = serde_json::from_str(json).map_err(|error| {
            OptionError::new(error).doing(&format!("failed to unmarshal cache-imports ({})", quoted(json)))
        })?;
        imports.extend(entries.into_iter().flatten().map(|entry| CacheImport {
            kind: entry.kind.unwrap_or_default(),
            attrs: entry.attrs.unwrap_or_default(),
        }));
    }
    if !images.is_empty() {
        imports.extend(images.split(',').map(|image| CacheImport {
            kind: "registry".to_owned(),
            attrs: BTreeMap::from([("ref".to_owned(), image.to_owned())]),
        }));
    }
    Ok(imports)
}

/// The statements that are wanted, with the full name of the image that lists packages.
fn checked_attestations(opts: &BTreeMap<String, String>) -> Result<Attestations, OptionError> {
    let mut wanted = attestations::attestations(opts)?;
    if let Some(generator) = wanted.get_mut("sbom").and_then(|sbom| sbom.get_mut("generator")) {
        let reference = Reference::parse(generator).map_err(|error| {
            OptionError::new(error).doing(&format!("failed to parse sbom scanner {generator}"))
        })?;
        *generator = reference.with_default_tag().to_string();
    }
    Ok(wanted)
}

fn lint(opts: &BTreeMap<String, String>) -> Result<Option<linter::Config>, OptionError> {
    const KEY: &str = "build-arg:BUILDKIT_DOCKERFILE_CHECK";
    opts.get(KEY)
        .map(|text| linter::Config::parse(text))
        .transpose()
        .map_err(|error| OptionError::new(error).doing(&format!("failed to parse {KEY}")))
}
