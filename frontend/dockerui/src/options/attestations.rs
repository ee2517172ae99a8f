//! Statements about a build that are wanted with its result.

use std::collections::BTreeMap;

use buildkit_util_gotext::quoted;

use super::gotext::csv_fields;
use crate::OptionError;

const PREFIXES: [&str; 2] = ["attest:", "build-arg:BUILDKIT_ATTEST_"];

/// Options of each statement that is wanted, by its type: `sbom` or `provenance`.
pub type Attestations = BTreeMap<String, BTreeMap<String, String>>;

/// Those that options ask for, with the defaults of the original.
pub(crate) fn attestations(opts: &BTreeMap<String, String>) -> Result<Attestations, OptionError> {
    let mut wanted = Attestations::new();
    for (kind, value) in PREFIXES.iter().flat_map(|prefix| {
        opts.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?.to_lowercase(), value)))
    }) {
        let mut attrs = BTreeMap::new();
        match kind.as_str() {
            "sbom" => {
                attrs.insert("generator".to_owned(), "docker/buildkit-syft-scanner:stable-1".to_owned())
            }
            "provenance" => attrs.insert("version".to_owned(), "v1".to_owned()),
            other => return Err(OptionError::new(format!("unknown attestation type {}", quoted(other)))),
        };
        if !value.is_empty() {
            let fields =
                csv_fields(value).map_err(|error| error.doing(&format!("failed to parse {kind}")))?;
            attrs.extend(fields.iter().map(|field| {
                let (key, value) = field.split_once('=').unwrap_or((field, ""));
                (key.to_owned(), value.to_owned())
            }));
        }
        wanted.insert(kind, attrs);
    }
    Ok(wanted)
}
