use buildkit_util_gopath::clean;
use buildkit_util_gotext::quoted;
use buildkit_util_patternmatcher::PatternMatcher;

use super::{broken, suggestion};
use crate::{Violation, rule};

/// Words of names that have something to hide, and those that say that it is not the thing itself.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// For each warning of the parser about an empty continuation line, before anything else is reported; with the
/// file's linter, at the place of the warning.
pub fn no_empty_continuation() -> Violation {
    broken(&rule::NO_EMPTY_CONTINUATION, "Empty continuation line")
}

/// For each `MAINTAINER`, found by the instructions' parser.
pub fn maintainer_deprecated() -> Violation {
    broken(&rule::MAINTAINER_DEPRECATED, "Maintainer instruction is deprecated in favor of using label")
}

/// For each variable that an instruction uses and that is not set, after its words were expanded, unless it is
/// among the arguments of the stage so far or one that is never in the environment (`BUILDKIT_SBOM_SCAN_…`).
/// `suggested` is the nearest of all variables.
pub fn undefined_var(name: &str, suggested: Option<&str>) -> Violation {
    let message = format!("Usage of undefined variable '${name}'{}", suggestion("$", suggested));
    broken(&rule::UNDEFINED_VAR, message)
}

/// For each second `CMD`, `ENTRYPOINT` or `HEALTHCHECK` of a stage, `keyword` as written, before anything else
/// about it; at the lines of the *previous* one, which has no effect.
pub fn multiple_instructions(keyword: &str) -> Violation {
    let message = format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    );
    broken(&rule::MULTIPLE_INSTRUCTIONS_DISALLOWED, message)
}

/// For each `CMD` or `ENTRYPOINT` in the shell form, `keyword` as written, unless `SHELL` was set in the stage or
/// its base.
pub fn json_args_recommended(keyword: &str) -> Violation {
    let message = format!(
        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
    );
    broken(&rule::JSON_ARGS_RECOMMENDED, message)
}

/// For each pair of `ENV` and `LABEL` without `=`, `keyword` as written, before [`secret_in_arg_or_env`] for the
/// same pair.
pub fn legacy_key_value_format(keyword: &str) -> Violation {
    let message =
        format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
    broken(&rule::LEGACY_KEY_VALUE_FORMAT, message)
}

/// For each key of `ENV` and `ARG` (global ones excepted); `instruction` is `ENV` or `ARG`.
pub fn secret_in_arg_or_env(instruction: &str, key: &str) -> Option<Violation> {
    let has =
        |words: &[&str]| key.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)));
    let message =
        || format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {})", quoted(key));
    (has(&SECRET) && !has(&HARMLESS)).then(|| broken(&rule::SECRETS_USED_IN_ARG_OR_ENV, message()))
}

/// For the first `WORKDIR` of a stage, in itself or in stages that it is based on, unless its expanded path is
/// absolute on the stage's platform. Those of base images' triggers do not count.
pub fn workdir_relative_path(path: &str) -> Violation {
    let message =
        format!("Relative workdir {} can have unexpected results if the base image changes", quoted(path));
    broken(&rule::WORKDIR_RELATIVE_PATH, message)
}

/// For each source of `COPY` and `ADD` that is a path in the main context, expanded, when that has an ignore
/// file. A matcher with exceptions says nothing, nor does one that fails.
pub fn copy_ignored_file(ignored: &PatternMatcher, is_add: bool, path: &str) -> Option<Violation> {
    if ignored.has_exclusions() {
        return None;
    }
    let path = clean(path);
    let ignores_all = || ignored.patterns().iter().any(|p| matches!(p.as_str(), "*" | "**" | "**/*"));
    if matches!(path.as_str(), "." | "/") && !ignores_all() {
        return None;
    }
    let command = if is_add { "Add" } else { "Copy" };
    let message =
        || format!("Attempting to {command} file {} that is excluded by .dockerignore", quoted(&path));
    ignored
        .matches_or_parent_matches(&path)
        .unwrap_or(false)
        .then(|| broken(&rule::COPY_IGNORED_FILE, message()))
}

/// For each expanded port of `EXPOSE`, once it is known to have a port and a protocol that exists.
pub fn expose_protocol_casing(port: &str) -> Option<Violation> {
    let container = port.rsplit(':').next().unwrap_or(port);
    let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
    let message = || format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
    (protocol != protocol.to_lowercase()).then(|| broken(&rule::EXPOSE_PROTO_CASING, message()))
}

/// As [`expose_protocol_casing`], after it.
pub fn expose_format(port: &str) -> Option<Violation> {
    let host = port.rsplit_once(':').map_or("", |(host, _)| host);
    let (address, host_port) = host.rsplit_once(':').unwrap_or(("", host));
    let message =
        || format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
    (!address.is_empty() || !host_port.is_empty()).then(|| broken(&rule::EXPOSE_INVALID_FORMAT, message()))
}
