use buildkit_frontend_dockerfile_shell::Expansion;
use buildkit_util_gotext::quoted;
use buildkit_util_reference::Reference;

use super::{broken, suggestion};
use crate::{Violation, rule};

/// The predefined variable that is the platform of the target.
const TARGET_PLATFORM: &str = "TARGETPLATFORM";

/// Once for each stage, when its base is expanded with nothing but the defaults of global arguments, before build
/// arguments count; with the file's linter. `base` is as written. When the expansion fails, no stage is checked
/// any more: the build will fail with the same error.
pub fn default_base_name(base: &str, expanded: &Expansion) -> Option<Violation> {
    let message = || format!("Default value for ARG {base} results in empty or invalid base image name");
    Reference::parse(&expanded.result).is_err().then(|| broken(&rule::INVALID_DEFAULT_ARG_IN_FROM, message()))
}

/// For each variable that the base or the platform of a stage uses and that is not set, unless it is among the
/// global arguments without a value; `suggested` is the nearest of those arguments.
pub fn undefined_arg_in_from(name: &str, suggested: Option<&str>) -> Violation {
    let message = format!("FROM argument '{name}' is not declared{}", suggestion("", suggested));
    broken(&rule::UNDEFINED_ARG_IN_FROM, message)
}

/// For each stage with `--platform`, after [`undefined_arg_in_from`] was for it. `platform` is as written,
/// `target` the value of `TARGETPLATFORM`.
pub fn redundant_target_platform(platform: &str, expanded: &Expansion, target: &str) -> Option<Violation> {
    // A platform made of several variables may be the target's by chance.
    let is_target = expanded.unmatched.is_empty()
        && expanded.matched.iter().eq([TARGET_PLATFORM])
        && expanded.result == target;
    let message = || {
        format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        )
    };
    is_target.then(|| broken(&rule::REDUNDANT_TARGET_PLATFORM, message()))
}

/// For each stage with `--platform`, after [`redundant_target_platform`] was for it, if the expanded platform
/// parses: as this operating system and architecture. A stage that has either in its name means it.
pub fn constant_platform(
    stage: &str,
    expanded: &Expansion,
    os: &str,
    architecture: &str,
) -> Option<Violation> {
    let is_constant = expanded.matched.is_empty() && expanded.unmatched.is_empty();
    let is_meant = stage.contains(os) || stage.contains(architecture);
    let message =
        || format!("FROM --platform flag should not use constant value {}", quoted(&expanded.result));
    (is_constant && !is_meant).then(|| broken(&rule::FROM_PLATFORM_FLAG_CONST_DISALLOWED, message()))
}

/// For each stage whose base image was pulled for another operating system or architecture than the stage is to
/// be built for; with the file's linter. `image` is as written; platforms are normalized, with versions and
/// features of their systems.
pub fn base_image_platform(image: &str, expected: &str, actual: &str) -> Violation {
    let message = format!(
        "Base image {image} was pulled with platform {}, expected {} for current build",
        quoted(actual),
        quoted(expected)
    );
    broken(&rule::INVALID_BASE_IMAGE_PLATFORM, message)
}
