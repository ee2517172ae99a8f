use std::collections::BTreeMap;

use buildkit_exporter::{CompatibilityVersion, Error};
use buildkit_exporter_containerimage_exptypes::{AnnotationKey, key, option};
use buildkit_exporter_util_epoch as epoch;
use buildkit_solver_result::BuildResult;
use buildkit_util_compression::{Compression, Config};
use buildkit_util_gotext::{bool_error, parse_bool as go_bool};

use crate::AnnotationGroup;

/// Options that exporters of images have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitOptions {
    /// Names, with commas; `*` for the one of the frontend.
    pub name: String,
    /// How layers are compressed.
    pub compression: Config,
    /// Whether documents have OCI's media types; by default as [`settle`](Self::settle) says.
    pub oci_types: Option<bool>,
    /// Whether attestations are OCI artifacts; by default as [`settle`](Self::settle) says.
    pub oci_artifact: Option<bool>,
    /// Whether attestations are added even to an image for one platform.
    pub inline_attestations: bool,
    /// Whether layers that registries must not give away keep their media type.
    pub prefer_nondist: bool,
    /// Whether times of files in new layers are brought down to the epoch.
    pub rewrite_timestamp: bool,
    /// What no time is later than, in seconds since 1970: `Some(None)` if the user wants times as they
    /// are, `None` if the frontend may choose.
    pub epoch: Option<Option<i64>>,
    /// Annotations.
    pub annotations: AnnotationGroup,
}

impl CommitOptions {
    /// Reads the options of a request and gives back those that it does not know.
    ///
    /// # Errors
    /// When one makes no sense, or two do not go together.
    pub fn load(attrs: &BTreeMap<String, String>) -> Result<(Self, BTreeMap<String, String>), Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let mut options = Self {
            annotations: AnnotationGroup::parse(attrs).map_err(|error| invalid(&error))?,
            epoch: epoch::from_attrs(attrs).map_err(|error| invalid(&error))?,
            compression: compression(attrs)?,
            ..Self::default()
        };
        let mut rest = BTreeMap::new();
        for (key, value) in attrs {
            match key.as_str() {
                option::NAME => options.name.clone_from(value),
                option::OCI_TYPES => options.oci_types = Some(parse_bool(key, value)?),
                option::OCI_ARTIFACT => options.oci_artifact = Some(parse_bool(key, value)?),
                option::INLINE_ATTESTATIONS => options.inline_attestations = parse_bool(key, value)?,
                option::PREFER_NONDIST_LAYERS => options.prefer_nondist = parse_bool(key, value)?,
                option::REWRITE_TIMESTAMP => options.rewrite_timestamp = parse_bool(key, value)?,
                epoch::OPTION
                | option::COMPRESSION
                | option::COMPRESSION_LEVEL
                | option::FORCE_COMPRESSION => {}
                key if matches!(AnnotationKey::parse(key), Ok(None)) => {
                    rest.insert(key.to_owned(), value.clone());
                }
                _ => {}
            }
        }
        options.validate()?;
        Ok((options, rest))
    }

    /// Decides what the user left open. `oci_types` is what an exporter wants whatever the version.
    ///
    /// # Errors
    /// When what comes out does not go together.
    pub fn settle(mut self, version: CompatibilityVersion, oci_types: Option<bool>) -> Result<Self, Error> {
        let is_current = version >= CompatibilityVersion::V30;
        let oci = *self.oci_types.get_or_insert(oci_types.unwrap_or(is_current));
        self.oci_artifact.get_or_insert(is_current && oci);
        self.validate()?;
        Ok(self)
    }

    /// The names, with commas, for a result whose frontend may have given one.
    pub fn name_for<R>(&self, result: &BuildResult<R>) -> String {
        match result.metadata.get(key::NAME) {
            Some(name) if self.name == "*" => String::from_utf8_lossy(name).into_owned(),
            _ => self.name.clone(),
        }
    }

    pub(crate) fn is_oci(&self) -> bool {
        self.oci_types == Some(true)
    }

    fn validate(&self) -> Result<(), Error> {
        if self.oci_types != Some(false) {
            return Ok(());
        }
        let kind = self.compression.kind;
        if kind == Compression::EStargz {
            return Err(Error::Invalid(format!(
                "exporter option \"compression={kind}\" conflicts with \"oci-mediatypes=false\""
            )));
        }
        if self.oci_artifact == Some(true) {
            return Err(Error::Invalid(
                "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"".to_owned(),
            ));
        }
        Ok(())
    }
}

fn compression(attrs: &BTreeMap<String, String>) -> Result<Config, Error> {
    let mut config = Config::default();
    if let Some(value) = attrs.get(option::COMPRESSION) {
        config.kind = value
            .parse()
            .map_err(|error: buildkit_util_compression::ParseError| Error::Invalid(error.to_string()))?;
    }
    if let Some(value) = attrs.get(option::FORCE_COMPRESSION) {
        let named = format!("non-bool value {value} specified for {}", option::FORCE_COMPRESSION);
        config.force = value.is_empty()
            || go_bool(value).ok_or_else(|| Error::Invalid(format!("{named}: {}", bool_error(value))))?;
    }
    if let Some(value) = attrs.get(option::COMPRESSION_LEVEL) {
        let level: i64 = value.parse().map_err(|_| {
            Error::Invalid(format!(
                "non-integer value {value} specified for {}: strconv.ParseInt: parsing {value:?}: invalid \
                 syntax",
                option::COMPRESSION_LEVEL
            ))
        })?;
        // What is out of bounds is brought into them by who compresses.
        config.level = Some(i32::try_from(level).unwrap_or(if level < 0 { i32::MIN } else { i32::MAX }));
    }
    Ok(config)
}

/// Reads an option that is yes or no.
///
/// # Errors
/// [`Error::Invalid`] if it is something else.
pub fn parse_bool(key: &str, value: &str) -> Result<bool, Error> {
    let error = || Error::Invalid(format!("non-bool value specified for {key}: {}", bool_error(value)));
    go_bool(value).ok_or_else(error)
}

/// Reads an option that is yes or no, where no value is yes.
///
/// # Errors
/// [`Error::Invalid`] if it is something else.
pub fn parse_flag(key: &str, value: &str) -> Result<bool, Error> {
    if value.is_empty() { Ok(true) } else { parse_bool(key, value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(attrs: &[(&str, &str)]) -> Result<(CommitOptions, Vec<String>), String> {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        match CommitOptions::load(&attrs) {
            Ok((options, rest)) => Ok((options, rest.into_keys().collect())),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn options_are_read() {
        let (options, rest) = load(&[
            ("name", "a,b"),
            ("oci-mediatypes", "t"),
            ("oci-artifact", "0"),
            ("attestation-inline", "true"),
            ("prefer-nondist-layers", "true"),
            ("rewrite-timestamp", "true"),
            ("source-date-epoch", ""),
            ("compression", "zstd"),
            ("compression-level", "-99999999999"),
            ("force-compression", ""),
            ("annotation-index.a", "b"),
            ("push", "true"),
        ])
        .unwrap();
        let expect = Config { kind: Compression::Zstd, level: Some(i32::MIN), force: true };
        assert_eq!(options.compression, expect);
        assert_eq!(
            (options.name.as_str(), options.oci_types, options.oci_artifact),
            ("a,b", Some(true), Some(false))
        );
        assert!(options.inline_attestations && options.prefer_nondist && options.rewrite_timestamp);
        assert_eq!((options.epoch, options.annotations.need_oci()), (Some(None), true));
        assert_eq!(rest, ["push"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (attrs, text) in [
            (
                &[("oci-mediatypes", "")][..],
                "non-bool value specified for oci-mediatypes: strconv.ParseBool: parsing \"\": invalid syntax",
            ),
            (&[("compression", "lz4")], "unsupported compression type lz4"),
            (
                &[("force-compression", "x")],
                "non-bool value x specified for force-compression: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                &[("compression-level", "x")],
                "non-integer value x specified for compression-level: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (&[("annotation-x.a", "b")], "unrecognized annotation type x"),
            (
                &[("compression", "estargz"), ("oci-mediatypes", "false")],
                "exporter option \"compression=estargz\" conflicts with \"oci-mediatypes=false\"",
            ),
            (
                &[("oci-artifact", "true"), ("oci-mediatypes", "false")],
                "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"",
            ),
        ] {
            assert_eq!(load(attrs).unwrap_err(), text);
        }
    }

    #[test]
    fn versions_have_defaults() {
        use CompatibilityVersion::{V10, V20, V30};
        let settle = |attrs: &[(&str, &str)], version, wanted| {
            let (options, _) = load(attrs).unwrap();
            let settled = options.settle(version, wanted).map_err(|error| error.to_string())?;
            Ok::<_, String>((settled.oci_types.unwrap(), settled.oci_artifact.unwrap()))
        };
        assert_eq!(settle(&[], V30, None), Ok((true, true)));
        assert_eq!(settle(&[], V20, None), Ok((false, false)));
        assert_eq!(settle(&[], V10, Some(true)), Ok((true, false)));
        assert_eq!(settle(&[("oci-mediatypes", "false")], V30, None), Ok((false, false)));
        assert_eq!(settle(&[("oci-mediatypes", "true")], V10, None), Ok((true, false)));
        // What needs OCI does not bring it.
        assert!(settle(&[("oci-artifact", "true")], V10, None).is_err());
        assert!(settle(&[("compression", "estargz")], V20, None).is_err());
        assert_eq!(settle(&[("compression", "zstd")], V20, Some(true)), Ok((true, false)));
    }
}
