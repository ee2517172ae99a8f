use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use buildkit_client_llb::{LinuxResources, Network, ResolveMode, SourceMap, Ulimit};
use buildkit_frontend_dockerfile_linter::{Config as LintConfig, Linter, Warning};
use buildkit_frontend_dockerfile_parser::{DirectiveKind, parse_directive};
use buildkit_util_ocispec::Platform;

use crate::{Budget, Error, Result, Surroundings};

/// What a user asks for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The stage to build, by name; empty is the last.
    pub target: String,
    /// Arguments.
    pub build_args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What the ids of cache mounts begin with, so that others do not share them.
    pub cache_id_namespace: String,
    /// When an image that is there already is looked up again.
    pub resolve_mode: ResolveMode,
    /// Names of steps have the platform.
    pub multi_platform: bool,
    /// Network of steps that name none.
    pub network: Network,
    /// Host name of steps; empty is the default.
    pub hostname: String,
    /// Additional hosts of steps.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Bytes of shared memory of steps; 0 is the default.
    pub shm_size: i64,
    /// Limits of steps, each with its soft and its hard value.
    pub ulimits: Vec<(Ulimit, i64, i64)>,
    /// Control group below which steps get theirs; empty is the default.
    pub cgroup_parent: String,
    /// Limits of steps.
    pub linux_resources: Option<LinuxResources>,
    /// What the linter heeds; `None` is what the file says.
    pub lint: Option<LintConfig>,
    /// Platforms that the daemon runs, its own first; empty is this program's.
    pub build_platforms: Vec<Platform>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: String::new(),
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            cache_id_namespace: String::new(),
            resolve_mode: ResolveMode::Default,
            multi_platform: false,
            network: Network::Sandbox,
            hostname: String::new(),
            extra_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            linux_resources: None,
            lint: None,
            build_platforms: Vec::new(),
        }
    }
}

/// Is told what the linter finds.
pub type Warn = Arc<dyn Fn(Warning) + Send + Sync>;

/// How a file is converted.
#[derive(Clone)]
pub struct ConvertOptions {
    /// What the user asks for.
    pub config: Arc<Settings>,
    /// The build that the conversion is part of.
    pub surroundings: Arc<dyn Surroundings>,
    /// The file, for who shows what ops come from.
    pub source_map: Arc<SourceMap>,
    /// What is built for; `None` is the daemon's own platform.
    pub target_platform: Option<Platform>,
    /// Who is told what the linter finds; `None` does without it.
    pub warn: Option<Warn>,
    /// Looks at stages that nobody needs, too.
    pub all_stages: bool,
    /// What this conversion and others of the same build may take.
    pub budget: Arc<Budget>,
}

impl ConvertOptions {
    /// The linter of a file.
    pub(crate) fn linter(&self, dockerfile: &[u8]) -> Result<Linter> {
        let Some(warn) = self.warn.clone() else { return Ok(Linter::silent()) };
        let config = match &self.config.lint {
            Some(config) => config.clone(),
            None => {
                let directive = parse_directive(DirectiveKind::Check, dockerfile);
                let text = directive.as_ref().map(|found| found.value.as_str()).unwrap_or_default();
                LintConfig::parse(text).map_err(|error| {
                    let error = Error::invalid(format!("failed to parse check options: {error}"));
                    let error = error.hint("write `# check=skip=RULE,OTHER;error=true`");
                    match &directive {
                        Some(directive) => error.at(&directive.ranges),
                        None => error,
                    }
                })?
            }
        };
        Ok(Linter::new(config, move |warning| warn(warning)))
    }
}

/// The mode in the words of requests.
pub(crate) fn resolve_mode_name(mode: ResolveMode) -> &'static str {
    match mode {
        ResolveMode::Default => "default",
        ResolveMode::ForcePull => "pull",
        ResolveMode::PreferLocal => "local",
    }
}
