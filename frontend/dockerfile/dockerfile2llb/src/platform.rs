use std::collections::BTreeMap;

use buildkit_frontend_dockerfile_shell::Env;
use buildkit_util_ocispec::{DockerImage, ParsePlatformError, Platform};

use crate::ConvertOptions;
use crate::env::EnvList;

/// The platforms of one conversion.
#[derive(Clone, Debug)]
pub(crate) struct Platforms {
    pub(crate) target: Platform,
    /// Those that the daemon runs, its own first; never empty.
    pub(crate) build: Vec<Platform>,
    /// Nobody asked for the target: it is the daemon's.
    pub(crate) is_implicit: bool,
}

impl Platforms {
    pub(crate) fn new(options: &ConvertOptions) -> Self {
        let build = match (&options.config.build_platforms[..], &options.target_platform) {
            ([], Some(target)) => vec![target.clone()],
            ([], None) => vec![Platform::native()],
            (platforms, _) => platforms.to_vec(),
        };
        let is_implicit = options.target_platform.is_none();
        let target = options
            .target_platform
            .clone()
            .or_else(|| build.first().cloned())
            .unwrap_or_else(Platform::native);
        Self { target, build, is_implicit }
    }

    /// The arguments that every Dockerfile has; `overrides` are those that the user gave.
    pub(crate) fn default_args(&self, overrides: &BTreeMap<String, String>, target: &str) -> EnvList {
        let (build, wanted) = (self.build.first().unwrap_or(&self.target), &self.target);
        let target = if target.is_empty() { "default" } else { target };
        let mut args = EnvList::default();
        for (name, value) in [
            ("BUILDPLATFORM", build.to_string().as_str()),
            ("BUILDOS", &build.os),
            ("BUILDOSVERSION", &build.os_version),
            ("BUILDARCH", &build.architecture),
            ("BUILDVARIANT", &build.variant),
            ("TARGETPLATFORM", &format_all(wanted)),
            ("TARGETOS", &wanted.os),
            ("TARGETOSVERSION", &wanted.os_version),
            ("TARGETARCH", &wanted.architecture),
            ("TARGETVARIANT", &wanted.variant),
            ("TARGETSTAGE", target),
        ] {
            args.set(name, overrides.get(name).map_or(value, String::as_str));
        }
        args
    }

    /// What an image is for that was found for `wanted`, when nobody asked for a platform: another one that the
    /// daemon runs, if the image says so.
    pub(crate) fn detect(&self, image: &DockerImage, wanted: &Platform) -> Platform {
        let fits = |platform: &Platform| {
            platform.os == image.platform.os && platform.architecture == image.platform.architecture
        };
        if fits(wanted) {
            return wanted.clone();
        }
        self.build.iter().find(|platform| fits(platform)).unwrap_or(wanted).clone()
    }
}

/// Reads what `FROM --platform` says. Other than comparing does, it leaves out the default variant of arm, and keeps
/// that of arm64 if it is written.
pub(crate) fn parse(text: &str) -> Result<Platform, ParsePlatformError> {
    let mut platform: Platform = text.parse()?;
    let has_variant = text.matches('/').count() > 1;
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("arm", "v7") if !has_variant => platform.variant.clear(),
        ("arm64", "") if has_variant => platform.variant.push_str("v8"),
        _ => {}
    }
    Ok(platform)
}

/// `os[(version)]/architecture[/variant]`.
pub fn format_all(platform: &Platform) -> String {
    let mut features = platform.os_features.clone();
    features.sort();
    if platform.os.is_empty() || (platform.os_version.is_empty() && features.is_empty()) {
        return platform.to_string();
    }
    let mut inner = platform.os_version.clone();
    for feature in features {
        inner.push('+');
        inner.push_str(&feature);
    }
    let mut out = format!("{}({inner})", platform.os);
    for part in [&platform.architecture, &platform.variant] {
        if !part.is_empty() {
            out.push('/');
            out.push_str(part);
        }
    }
    out
}

/// What the variables `TARGET*` name, if any is set.
pub(crate) fn of_variables(env: &dyn Env) -> Option<Platform> {
    let mut platform = Platform::default();
    let mut is_set = false;
    for name in env.keys() {
        let value = || env.get(name).unwrap_or_default().to_owned();
        match name {
            "TARGETPLATFORM" => {
                if let Ok(platform) = parse(&value()) {
                    return Some(platform);
                }
            }
            "TARGETOS" => (platform.os, is_set) = (value(), true),
            "TARGETARCH" => (platform.architecture, is_set) = (value(), true),
            "TARGETVARIANT" => (platform.variant, is_set) = (value(), true),
            _ => {}
        }
    }
    is_set.then_some(platform)
}

/// `->arm64` behind the name of the platform that a step runs on, when what it makes is for another.
pub(crate) fn format_target(base: &Platform, target: Option<Platform>) -> String {
    let Some(mut target) = target else { return String::new() };
    if target.os.is_empty() {
        target.os.clone_from(&base.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&base.architecture);
    }
    let target = target.normalized();
    if target.os != base.os {
        return format!("->{}", format_all(&target));
    }
    match (target.architecture == base.architecture, target.variant.as_str()) {
        (true, _) => String::new(),
        (false, "") => format!("->{}", target.architecture),
        (false, variant) => format!("->{}/{variant}", target.architecture),
    }
}
