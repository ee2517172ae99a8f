use anyhow::{Context as _, Result, bail};
use buildkit_client::CacheOption;
use buildkit_util_gotext::parse_bool;

use super::fields;

/// Parses the values of `--export-cache`.
pub(crate) fn exports(list: &[String]) -> Result<Vec<CacheOption>> {
    list.iter()
        .map(|line| {
            let mut option = parse(line, "--export-cache")?;
            option.attrs.entry("mode".to_owned()).or_insert_with(|| "min".to_owned());
            Ok(option)
        })
        .collect()
}

/// Parses the values of `--import-cache`.
pub(crate) fn imports(list: &[String]) -> Result<Vec<CacheOption>> {
    list.iter().map(|line| parse(line, "--import-cache")).collect()
}

fn parse(line: &str, flag: &str) -> Result<CacheOption> {
    if !line.contains("type=") {
        tracing::warn!(
            "{flag} <ref> is deprecated. \
             Please use {flag} type=registry,ref=<ref>,<opt>=<optval>[,<opt>=<optval>] instead"
        );
        let attrs = [("ref".to_owned(), line.to_owned())].into();
        return Ok(CacheOption { kind: "registry".to_owned(), attrs });
    }
    let (kind, attrs) = fields::typed(line)?;
    if kind.is_empty() {
        bail!("{flag} requires type=<type>");
    }
    let option = CacheOption { kind, attrs };
    if option.kind == "gha" {
        return github(option, |name| std::env::var(name).ok());
    }
    Ok(option)
}

/// Adds what a job of GitHub Actions knows about its cache service.
fn github(mut option: CacheOption, variable: impl Fn(&str) -> Option<String>) -> Result<CacheOption> {
    let attrs = &mut option.attrs;
    let is_v2 = match attrs.get("version") {
        Some(version) => version == "2",
        None => variable("ACTIONS_CACHE_SERVICE_V2").and_then(|text| parse_bool(&text)) == Some(true),
    };
    let mut add = |key: &str, value: Option<String>| {
        if let (Some(value), false) = (value, attrs.contains_key(key)) {
            attrs.insert(key.to_owned(), value);
        }
    };
    if is_v2 {
        add("url_v2", variable("ACTIONS_RESULTS_URL"));
    }
    add("url", variable("ACTIONS_CACHE_URL").or_else(|| variable("ACTIONS_RESULTS_URL")));
    add("token", variable("ACTIONS_RUNTIME_TOKEN"));
    if !attrs.contains_key("url") && !attrs.contains_key("url_v2") {
        bail!("cache with type gha requires url parameter to be set");
    }
    attrs
        .contains_key("token")
        .then_some(())
        .context("cache with type gha requires token parameter or $ACTIONS_RUNTIME_TOKEN")?;
    Ok(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(option: Result<CacheOption>) -> String {
        match option {
            Ok(option) => format!("{} {:?}", option.kind, option.attrs),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn places() {
        let export = |line: &str| show(exports(&[line.to_owned()]).map(|mut list| list.remove(0)));
        assert_eq!(export("a/b"), r#"registry {"mode": "min", "ref": "a/b"}"#);
        assert_eq!(export("type=local,dest=d,mode=max"), r#"local {"dest": "d", "mode": "max"}"#);
        assert_eq!(show(parse("xtype=1", "--import-cache")), "--import-cache requires type=<type>");
    }

    #[test]
    fn actions() {
        let gha = |set: &[(&str, &str)]| {
            let option = CacheOption { kind: "gha".to_owned(), ..CacheOption::default() };
            show(github(option, |name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            }))
        };
        assert_eq!(
            gha(&[("ACTIONS_CACHE_URL", "u"), ("ACTIONS_RUNTIME_TOKEN", "t")]),
            r#"gha {"token": "t", "url": "u"}"#
        );
        assert_eq!(
            gha(&[
                ("ACTIONS_CACHE_SERVICE_V2", "true"),
                ("ACTIONS_RESULTS_URL", "r"),
                ("ACTIONS_RUNTIME_TOKEN", "t")
            ]),
            r#"gha {"token": "t", "url": "r", "url_v2": "r"}"#
        );
        assert_eq!(gha(&[]), "cache with type gha requires url parameter to be set");
        assert_eq!(
            gha(&[("ACTIONS_CACHE_URL", "u")]),
            "cache with type gha requires token parameter or $ACTIONS_RUNTIME_TOKEN"
        );
    }
}
