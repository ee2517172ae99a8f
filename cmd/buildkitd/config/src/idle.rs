//! Keys whose subject does not exist yet.

/// A line goes when what it configures is built. With a key go all below it.
const IDLE: &[&[&str]] = &[
    &["cache"],
    &["cdi"],
    &["frontend"],
    &["otel"],
    &["provenanceEnvDir"],
    &["system", "platformsCacheMaxAge"],
    &["worker", "oci", "stargzSnapshotter"],
    &["worker", "oci", "userRemapUnsupported"],
];

/// The keys of `document` that change nothing, as they would be written, in order.
pub(crate) fn keys(document: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for path in IDLE {
        if let Some((key, rest)) = path.split_first()
            && let Some(value) =
                rest.iter().try_fold(document.get(*key), |value, key| Some(value?.get(key))).flatten()
        {
            leaves(&path.join("."), value, &mut found);
        }
    }
    found
}

fn leaves(path: &str, value: &toml::Value, found: &mut Vec<String>) {
    let Some(table) = value.as_table() else {
        found.push(path.to_owned());
        return;
    };
    for (key, value) in table {
        let is_bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let key = if is_bare { key.clone() } else { format!("{key:?}") };
        leaves(&format!("{path}.{key}"), value, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_named() {
        let keys = |text: &str| keys(&text.parse().expect("valid"));
        assert_eq!(keys("root = '/r'\n[worker.oci]\ngc = true"), [""; 0]);
        assert_eq!(keys("[cdi]\n[otel]\n[system]"), [""; 0], "an empty section sets nothing");
        assert_eq!(keys("[history]\nmaxEntries = 3"), [""; 0], "it has a subject");
        assert_eq!(
            keys(
                "provenanceEnvDir = '/p'\n[cdi]\ndisabled = true\nspecDirs = ['/s']\n[worker.oci]\nuserRemapUnsupported = 'x'"
            ),
            ["cdi.disabled", "cdi.specDirs", "provenanceEnvDir", "worker.oci.userRemapUnsupported"]
        );
        assert_eq!(
            keys("[frontend.'gateway.v0']\nenabled = false\n[cache.gha.sign]\ncommand = ['x']"),
            ["cache.gha.sign.command", "frontend.\"gateway.v0\".enabled"]
        );
    }
}
