//! Checks of a solve request that need nothing but the request.

use std::collections::BTreeMap;

use buildkit_api_services_control::{CacheOptionsEntry, Exporter, SolveRequest};
use buildkit_errdefs::Kind;
use buildkit_exporter::CompatibilityVersion;
use buildkit_util_grpcerrors::RemoteError;

/// Forms of old clients become those of new ones.
pub(crate) fn modernise(request: &mut SolveRequest) {
    let cache = request.cache.get_or_insert_default();
    let legacy_export = std::mem::take(&mut cache.export_ref_deprecated);
    let mut attrs = std::mem::take(&mut cache.export_attrs_deprecated);
    if !legacy_export.is_empty() {
        attrs.insert("ref".to_owned(), legacy_export);
        cache.exports.push(CacheOptionsEntry { r#type: "registry".to_owned(), attrs });
    }
    for legacy_import in std::mem::take(&mut cache.import_refs_deprecated) {
        cache.imports.push(CacheOptionsEntry {
            r#type: "registry".to_owned(),
            attrs: [("ref".to_owned(), legacy_import)].into(),
        });
    }
    let legacy_exporter = std::mem::take(&mut request.exporter_deprecated);
    let attrs = std::mem::take(&mut request.exporter_attrs_deprecated);
    if request.exporters.is_empty() && !legacy_exporter.is_empty() {
        request.exporters.push(Exporter { r#type: legacy_exporter, attrs });
    }
}

/// Refuses what makes no sense and what does not exist, by name.
pub(crate) fn check(request: &SolveRequest) -> Result<(), RemoteError> {
    let unimplemented = |what: &str| {
        Err(RemoteError::new(Kind::Unimplemented, format!("{what} is not implemented by this daemon")))
    };
    compatibility(request)?;
    if let Some(cache) = &request.cache {
        for (at, export) in cache.exports.iter().enumerate() {
            if cache.exports[..at].iter().any(|other| other == export) && export.r#type != "inline" {
                return Err(RemoteError::new(
                    Kind::InvalidArgument,
                    format!("duplicate cache exports [{}]", export.r#type),
                ));
            }
        }
        if let Some(export) = cache
            .exports
            .iter()
            .find(|export| !matches!(export.r#type.as_str(), "inline" | "local" | "registry"))
        {
            return match export.r#type.as_str() {
                "gha" | "s3" | "azblob" => unimplemented(&format!("Cache export `{}`", export.r#type)),
                other => Err(RemoteError::new(Kind::Unknown, format!("unknown cache exporter: \"{other}\""))),
            };
        }
    }
    if request.proxy_network {
        return unimplemented("Proxy network");
    }
    // Clients ask for some without being told to; a build is as good without.
    let is_attestation =
        |key: &&String| key.starts_with("attest:") || key.starts_with("build-arg:BUILDKIT_ATTEST_");
    let attestations: Vec<_> = request.frontend_attrs.keys().filter(is_attestation).collect();
    if !attestations.is_empty() {
        tracing::debug!(?attestations, "attestations that a client asks for are not made");
    }
    Ok(())
}

/// Whether images are to say what they can be cache for.
pub(crate) fn inline_cache(request: &SolveRequest) -> bool {
    request.cache.iter().flat_map(|cache| &cache.exports).any(|export| export.r#type == "inline")
}

/// Caches that are to be written: kinds and options.
pub(crate) fn cache_exports(request: &SolveRequest) -> Vec<(String, BTreeMap<String, String>)> {
    let exports = request.cache.iter().flat_map(|cache| &cache.exports);
    let exports = exports.filter(|export| export.r#type != "inline");
    exports.map(|export| (export.r#type.clone(), export.attrs.clone())).collect()
}

/// Whose defaults the build is to have.
pub(crate) fn compatibility(request: &SolveRequest) -> Result<CompatibilityVersion, RemoteError> {
    CompatibilityVersion::try_from(request.compatibility_version)
        .map_err(|error| RemoteError::from_error(&error))
}

/// `gateway.v0` of the source `dockerfile.v0` means the frontend in the daemon, and no image of that name, unless
/// the client gives a context in its place (upstream `solver/llbsolver/solver.go`).
pub(crate) fn use_builtin_frontend(request: &mut SolveRequest) {
    const BUILTIN: &str = "dockerfile.v0";
    let is_replaced = |key: &String| {
        let context = key.strip_prefix("context:").and_then(|name| name.strip_prefix(BUILTIN));
        context.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let attrs = &mut request.frontend_attrs;
    let is_builtin = attrs.get("source").is_some_and(|source| source == BUILTIN);
    if request.frontend == "gateway.v0" && is_builtin && !attrs.keys().any(is_replaced) {
        attrs.remove("source");
        request.frontend = BUILTIN.to_owned();
    }
}

/// `SOURCE_DATE_EPOCH` as a build argument holds for exporters that name none, unless it is the name of something
/// whose date a frontend is to find out.
pub(crate) fn spread_epoch(request: &mut SolveRequest) {
    let Some(epoch) = request.frontend_attrs.get("build-arg:SOURCE_DATE_EPOCH").cloned() else {
        return;
    };
    if !epoch.is_empty() && epoch.parse::<i64>().is_err() {
        return;
    }
    for exporter in &mut request.exporters {
        exporter.attrs.entry("source-date-epoch".to_owned()).or_insert_with(|| epoch.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit_api_services_control::CacheOptions;

    #[test]
    fn old_forms_become_new_ones() {
        let mut request = SolveRequest {
            exporter_deprecated: "local".to_owned(),
            cache: Some(CacheOptions {
                export_ref_deprecated: "r/a".to_owned(),
                import_refs_deprecated: vec!["r/b".to_owned()],
                ..CacheOptions::default()
            }),
            frontend_attrs: [("build-arg:SOURCE_DATE_EPOCH".to_owned(), "7".to_owned())].into(),
            ..SolveRequest::default()
        };
        modernise(&mut request);
        spread_epoch(&mut request);
        assert_eq!(request.exporters[0].r#type, "local");
        assert_eq!(request.exporters[0].attrs["source-date-epoch"], "7");
        let cache = request.cache.as_ref().expect("made");
        assert_eq!(cache.exports[0].attrs["ref"], "r/a");
        assert_eq!(cache.imports[0].attrs["ref"], "r/b");
        assert_eq!(cache_exports(&request)[0].1["ref"], "r/a");

        // The name of something is no date.
        let exporter = Exporter { r#type: "local".to_owned(), ..Exporter::default() };
        let mut request = SolveRequest { exporters: vec![exporter], ..SolveRequest::default() };
        request.frontend_attrs.insert("build-arg:SOURCE_DATE_EPOCH".to_owned(), "context".to_owned());
        spread_epoch(&mut request);
        assert!(request.exporters[0].attrs.is_empty());

        // With both forms the new one counts.
        let exporter = |kind: &str| Exporter { r#type: kind.to_owned(), ..Exporter::default() };
        let mut request = SolveRequest {
            exporter_deprecated: "local".to_owned(),
            exporters: vec![exporter("tar")],
            ..SolveRequest::default()
        };
        modernise(&mut request);
        assert_eq!(request.exporters, [exporter("tar")]);
        assert!(check(&request).is_ok());
    }

    #[test]
    fn the_frontend_in_the_daemon_has_a_name_as_a_source() {
        let solve = |attrs: &[(&str, &str)]| {
            let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let mut request = SolveRequest {
                frontend: "gateway.v0".to_owned(),
                frontend_attrs: attrs.collect(),
                ..SolveRequest::default()
            };
            use_builtin_frontend(&mut request);
            (request.frontend, request.frontend_attrs.contains_key("source"))
        };
        let builtin = ("source", "dockerfile.v0");
        assert_eq!(solve(&[builtin, ("target", "a")]), ("dockerfile.v0".to_owned(), false));
        assert_eq!(solve(&[builtin, ("context:dockerfile.v0x", "")]), ("dockerfile.v0".to_owned(), false));
        let other = ("gateway.v0".to_owned(), true);
        assert_eq!(solve(&[("source", "docker/dockerfile:1")]), other);
        assert_eq!(solve(&[builtin, ("context:dockerfile.v0", "docker-image://x")]), other);
        assert_eq!(solve(&[builtin, ("context:dockerfile.v0::linux/amd64", "local:x")]), other);
        assert_eq!(solve(&[]), ("gateway.v0".to_owned(), false));
    }

    #[test]
    fn images_say_what_they_can_be_cache_for_if_asked() {
        let entry = CacheOptionsEntry { r#type: "inline".to_owned(), ..CacheOptionsEntry::default() };
        let exports = vec![entry.clone(), entry];
        let request = SolveRequest {
            cache: Some(CacheOptions { exports, ..CacheOptions::default() }),
            ..SolveRequest::default()
        };
        check(&request).expect("a second time changes nothing");
        assert!(inline_cache(&request));
        assert!(!inline_cache(&SolveRequest::default()));
    }

    #[test]
    fn nonsense_is_refused() {
        let entry = CacheOptionsEntry { r#type: "local".to_owned(), ..CacheOptionsEntry::default() };
        let duplicate = SolveRequest {
            cache: Some(CacheOptions { exports: vec![entry.clone(), entry], ..CacheOptions::default() }),
            ..SolveRequest::default()
        };
        assert_eq!(check(&duplicate).expect_err("duplicate").kind, Kind::InvalidArgument);
        let version = SolveRequest { compatibility_version: 11, ..SolveRequest::default() };
        assert_eq!(check(&version).expect_err("no such version").kind, Kind::InvalidArgument);
    }
}
