//! Rules and their words are those of the original, which wrote `rules.txt`.

use buildkit_frontend_dockerfile_linter::{RULES, Violation, checks};
use buildkit_frontend_dockerfile_shell::Expansion;
use buildkit_util_patternmatcher::PatternMatcher;

fn expanded(result: &str, matched: &[&str], unmatched: &[&str]) -> Expansion {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Expansion {
        result: result.to_owned(),
        words: vec![result.to_owned()],
        matched: names(matched),
        unmatched: names(unmatched),
    }
}

fn ignoring(patterns: &[&str]) -> PatternMatcher {
    PatternMatcher::new(patterns).expect("patterns")
}

/// One that is broken for each rule, in the order of the rules.
fn one_of_each() -> Vec<Option<Violation>> {
    use checks::*;

    let mut names = StageNames::default();
    assert_eq!(names.add("base"), None);
    vec![
        stage_name_casing("Base"),
        from_as_casing("FROM", "as"),
        Some(no_empty_continuation()),
        CaseMajority::of(["FROM", "Run"]).check("Run"),
        names.add("base"),
        reserved_stage_name("context"),
        Some(json_args_recommended("CMD")),
        Some(maintainer_deprecated()),
        Some(undefined_arg_in_from("foo", Some("fop"))),
        Some(workdir_relative_path("src")),
        Some(undefined_var("foo", Some("fop"))),
        Some(multiple_instructions("CMD")),
        Some(legacy_key_value_format("ENV")),
        Some(base_image_platform("alpine", "linux/amd64", "linux/arm/v7")),
        redundant_target_platform(
            "$TARGETPLATFORM",
            &expanded("linux/amd64", &["TARGETPLATFORM"], &[]),
            "linux/amd64",
        ),
        secret_in_arg_or_env("ARG", "API_KEY"),
        default_base_name("busybox:${TAG}", &expanded("busybox:", &[], &["TAG"])),
        constant_platform("build", &expanded("linux/amd64", &[], &[]), "linux", "amd64"),
        copy_ignored_file(&ignoring(&["a"]), false, "./a/b/"),
        Some(definition_description("FROM", "base")),
        expose_protocol_casing("80/TCP"),
        expose_format("127.0.0.1:80:80"),
    ]
}

#[test]
fn rules_are_those_of_the_original() {
    let recorded: Vec<&str> = include_str!("rules.txt").lines().collect();
    let ours: Vec<String> = RULES
        .iter()
        .zip(one_of_each())
        .map(|(rule, violation)| {
            let violation = violation.unwrap_or_else(|| panic!("{} is broken", rule.name));
            assert_eq!(violation.rule.name, rule.name);
            let (deprecated, experimental) = (rule.deprecated, rule.experimental);
            let (name, description, url) = (rule.name, rule.description, rule.url);
            format!("{name}\t{description}\t{url}\t{deprecated}\t{experimental}\t{}", violation.message)
        })
        .collect();
    assert_eq!(ours.len(), recorded.len());
    ours.iter().zip(recorded).for_each(|(ours, recorded)| assert_eq!(ours, recorded));
}

#[test]
fn suggestions_are_optional() {
    assert_eq!(checks::undefined_var("x", None).message, "Usage of undefined variable '$x'");
    assert_eq!(checks::undefined_arg_in_from("x", None).message, "FROM argument 'x' is not declared");
}

#[test]
fn keywords_are_in_one_case() {
    assert_eq!(checks::stage_name_casing("base-1"), None);
    for (from, as_keyword, is_right) in
        [("FROM", "AS", true), ("from", "as", true), ("from", "AS", false), ("From", "aS", true)]
    {
        assert_eq!(checks::from_as_casing(from, as_keyword).is_none(), is_right, "{from} {as_keyword}");
    }
    let majority = checks::CaseMajority::of(["from", "run", "COPY", "Cmd"]);
    let broken = |keyword| majority.check(keyword).map(|violation| violation.message);
    assert_eq!(broken("run"), None);
    let message = "Command 'COPY' should match the case of the command majority (lowercase)";
    assert_eq!(broken("COPY").as_deref(), Some(message));
    // As many in one as in the other: upper case.
    assert_eq!(checks::CaseMajority::of(["from", "RUN"]).check("RUN"), None);
    assert_eq!(checks::reserved_stage_name("build"), None);
}

#[test]
fn names_of_secrets() {
    for (key, is_secret) in [
        ("API_KEY", true),
        ("DATABASE_PASSWORD", true),
        ("secret_MESSAGE", true),
        ("AUTH", true),
        ("apikey", true),
        ("MONKEY", false),
        ("KEYS", false),
        ("PUBLIC_KEY", false),
        ("TOKEN_FILE", false),
        ("KEY_VERSION", false),
        ("", false),
    ] {
        assert_eq!(checks::secret_in_arg_or_env("ENV", key).is_some(), is_secret, "{key}");
    }
}

#[test]
fn platforms_of_stages() {
    let redundant = |expansion: Expansion| {
        checks::redundant_target_platform("$TARGETPLATFORM", &expansion, "linux/amd64").is_some()
    };
    assert!(redundant(expanded("linux/amd64", &["TARGETPLATFORM"], &[])));
    assert!(!redundant(expanded("linux/amd64", &["TARGETPLATFORM", "X"], &[])));
    assert!(!redundant(expanded("linux/amd64", &["TARGETPLATFORM"], &["X"])));
    assert!(!redundant(expanded("linux/amd64/v2", &["TARGETPLATFORM"], &[])));
    assert!(!redundant(expanded("linux/amd64", &["BUILDPLATFORM"], &[])));
    let constant = |stage: &str, expansion: Expansion| {
        checks::constant_platform(stage, &expansion, "linux", "amd64").is_some()
    };
    assert!(constant("", expanded("linux/amd64", &[], &[])));
    assert!(!constant("build-amd64", expanded("linux/amd64", &[], &[])));
    assert!(!constant("linux-tools", expanded("linux/amd64", &[], &[])));
    assert!(!constant("", expanded("linux/amd64", &["X"], &[])));
    assert!(!constant("", expanded("linux/amd64", &[], &["X"])));
    assert_eq!(checks::default_base_name("x", &expanded("busybox", &[], &[])), None);
}

#[test]
fn ignored_files() {
    let ignored = |patterns: &[&str], path: &str| {
        checks::copy_ignored_file(&ignoring(patterns), true, path).map(|violation| violation.message)
    };
    let message = "Attempting to Add file \"foo/bar\" that is excluded by .dockerignore";
    assert_eq!(ignored(&["foo"], "foo/bar").as_deref(), Some(message));
    assert_eq!(ignored(&["foo"], "bar"), None);
    assert_eq!(ignored(&["foo", "!foo/bar"], "foo"), None);
    assert_eq!(ignored(&["foo"], "."), None);
    assert_eq!(ignored(&["foo"], "/"), None);
    let message = "Attempting to Add file \"/\" that is excluded by .dockerignore";
    assert_eq!(ignored(&["*"], "/").as_deref(), Some(message));
}

#[test]
fn exposed_ports() {
    for (port, casing, format) in [
        ("80", false, false),
        ("80/tcp", false, false),
        ("80-90/Udp", true, false),
        ("8080:80/TCP", true, true),
        (":80", false, false),
        ("::80", false, false),
        ("[::1]::80", false, true),
        ("127.0.0.1::80", false, true),
    ] {
        assert_eq!(checks::expose_protocol_casing(port).is_some(), casing, "{port}");
        assert_eq!(checks::expose_format(port).is_some(), format, "{port}");
    }
}
