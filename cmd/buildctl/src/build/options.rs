use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use buildkit_util_contentutil::{ContentStore, LayoutStore};

use super::fields;

const BUILD_ARG: &str = "build-arg:";
/// Variables of this process that builds get without being asked for.
const PASSED_ON: [&str; 1] = ["SOURCE_DATE_EPOCH"];

/// Parses the values of `--opt`. `build-arg:NAME` alone takes the value of the variable; it is left
/// out when there is none, so that the build's default holds.
pub(crate) fn parse(
    list: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>> {
    let mut options: BTreeMap<String, String> =
        PASSED_ON.iter().filter_map(|name| Some((format!("{BUILD_ARG}{name}"), variable(name)?))).collect();
    let mut resolved = Vec::with_capacity(list.len());
    for option in list {
        match option.strip_prefix(BUILD_ARG) {
            Some(name) if !name.is_empty() && !name.contains('=') => {
                resolved.extend(variable(name).map(|value| format!("{option}={value}")));
            }
            _ => resolved.push(option.clone()),
        }
    }
    options.extend(fields::pairs(&resolved)?);
    Ok(options)
}

/// Parses the values of `--local`: directories that must exist.
pub(crate) fn local(list: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut directories = BTreeMap::new();
    for (name, path) in fields::pairs(list)? {
        let metadata = fs_err::metadata(&path)?;
        if !metadata.is_dir() {
            bail!("{path} is not a directory");
        }
        directories.insert(name, PathBuf::from(path));
    }
    Ok(directories)
}

/// Parses the values of `--oci-layout`: image layouts, which must exist.
pub(crate) fn layouts(list: &[String]) -> Result<BTreeMap<String, Arc<dyn ContentStore>>> {
    let mut stores = BTreeMap::new();
    for option in list {
        let (name, path) = option.split_once('=').with_context(|| {
            format!("oci-layout option must be 'id=path/to/layout', instead had invalid {option}")
        })?;
        let failed = || format!("oci-layout context at {path} failed to initialize");
        if !fs_err::metadata(path).with_context(failed)?.is_dir() {
            bail!("{}: it is not a directory", failed());
        }
        stores.insert(name.to_owned(), Arc::new(LayoutStore::new(path)) as Arc<dyn ContentStore>);
    }
    Ok(stores)
}

/// Checks the values of `--allow`.
pub(crate) fn check_entitlements(list: &[String]) -> Result<()> {
    for entitlement in list {
        let (name, value) = match entitlement.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (entitlement.as_str(), None),
        };
        match (name, value) {
            ("security.insecure" | "network.host" | "device", None) => {}
            ("device", Some(value)) => device(value)?,
            _ => bail!("unknown entitlement {entitlement}"),
        }
    }
    Ok(())
}

/// `NAME[,alias=ALIAS]`
fn device(text: &str) -> Result<()> {
    for field in fields::csv(text)?.iter().skip(1) {
        let (key, _) = field.split_once('=').with_context(|| format!("invalid device config {field:?}"))?;
        if key != "alias" {
            bail!("unknown device config key {key:?}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let variable = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "SOURCE_DATE_EPOCH" => Some("1".to_owned()),
            _ => None,
        };
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let parsed =
            parse(&list(&["a=b=c", "build-arg:SET", "build-arg:UNSET", "build-arg:X=", "a=d"]), variable);
        let parsed: Vec<_> = parsed.expect("fits").into_iter().collect();
        let expect = [
            ("a", "d"),
            ("build-arg:SET", "value"),
            ("build-arg:SOURCE_DATE_EPOCH", "1"),
            ("build-arg:X", ""),
        ];
        assert_eq!(parsed, expect.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(parse(&list(&["a"]), variable).is_err());
    }

    #[test]
    fn image_layouts() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().display().to_string();
        let names = |list: &[String]| layouts(list).map(|stores| stores.into_keys().collect::<Vec<_>>());
        let found = names(&[format!("a={path}"), format!("b={path}")]).expect("fits");
        assert_eq!(found, ["a", "b"]);
        let error = names(&["a".to_owned()]).expect_err("no path").to_string();
        assert_eq!(error, "oci-layout option must be 'id=path/to/layout', instead had invalid a");
        let error = names(&[format!("a={path}/none")]).expect_err("is not there").to_string();
        assert_eq!(error, format!("oci-layout context at {path}/none failed to initialize"));
    }

    #[test]
    fn entitlements() {
        let check = |text: &str| check_entitlements(&[text.to_owned()]);
        for text in ["network.host", "security.insecure", "device", "device=a/b=c,alias=d"] {
            check(text).expect(text);
        }
        for text in ["network", "network.host=1", "device=a,b", "device=a,b=c"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
