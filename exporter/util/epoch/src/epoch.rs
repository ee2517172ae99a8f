use std::collections::BTreeMap;
use std::num::IntErrorKind;

use buildkit_errdefs::{Classify, Kind};

/// Option of exporters. An empty value says that there is no epoch, whatever the frontend says.
pub const OPTION: &str = "source-date-epoch";
/// Option of frontends.
pub const BUILD_ARG: &str = "build-arg:SOURCE_DATE_EPOCH";
/// Metadata key of a result; `/` and the id of a platform may follow.
pub const METADATA_KEY: &str = "source.date.epoch";

/// An epoch makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// That of the user.
    #[error("invalid {OPTION}: {0}")]
    Option(String),
    /// That of the frontend.
    #[error("invalid SOURCE_DATE_EPOCH from frontend: {value:?}: invalid : {reason}")]
    Frontend {
        /// What it is.
        value: String,
        /// Why it is none.
        reason: String,
    },
}

impl Classify for EpochError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// The epoch among the options of an exporter: `None` if nothing is said, `Some(None)` if there is to be
/// none.
///
/// # Errors
/// [`EpochError::Option`] if it is no number.
pub fn from_attrs(attrs: &BTreeMap<String, String>) -> Result<Option<Option<i64>>, EpochError> {
    attrs.get(OPTION).map(|value| parse(value).map_err(EpochError::Option)).transpose()
}

/// The epoch that a frontend gave with its result: one for all, or that of a platform.
///
/// # Errors
/// [`EpochError::Frontend`] if it is no number.
pub fn from_metadata<V: AsRef<[u8]>>(
    metadata: &BTreeMap<String, V>,
    platform: Option<&str>,
) -> Result<Option<i64>, EpochError> {
    let of_platform = platform.map(|id| format!("{METADATA_KEY}/{id}"));
    for key in [Some(METADATA_KEY.to_owned()), of_platform].into_iter().flatten() {
        let Some(value) = metadata.get(&key) else { continue };
        let value = String::from_utf8_lossy(value.as_ref());
        let epoch = parse(&value)
            .map_err(|reason| EpochError::Frontend { value: value.clone().into_owned(), reason })?;
        if epoch.is_some() {
            return Ok(epoch);
        }
    }
    Ok(None)
}

fn parse(value: &str) -> Result<Option<i64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|error: std::num::ParseIntError| {
        let reason = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {value:?}: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn users_choose() {
        assert_eq!(from_attrs(&map(&[])), Ok(None));
        assert_eq!(from_attrs(&map(&[(OPTION, "")])), Ok(Some(None)));
        assert_eq!(from_attrs(&map(&[(OPTION, "-5")])), Ok(Some(Some(-5))));
        for (value, reason) in [("x", "invalid syntax"), ("9223372036854775808", "value out of range")] {
            let error = from_attrs(&map(&[(OPTION, value)])).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("invalid source-date-epoch: strconv.ParseInt: parsing {value:?}: {reason}")
            );
        }
    }

    #[test]
    fn frontends_choose() {
        let one = map(&[("source.date.epoch/linux/arm64", "7")]);
        assert_eq!(from_metadata(&one, Some("linux/arm64")), Ok(Some(7)));
        assert_eq!(from_metadata(&one, Some("linux/amd64")), Ok(None));
        assert_eq!(from_metadata(&one, None), Ok(None));
        let all = map(&[("source.date.epoch/a", "7"), (METADATA_KEY, "9")]);
        assert_eq!(from_metadata(&all, Some("a")), Ok(Some(9)));
        let empty = map(&[("source.date.epoch/a", "7"), (METADATA_KEY, "")]);
        assert_eq!(from_metadata(&empty, Some("a")), Ok(Some(7)));
        let error = from_metadata(&map(&[(METADATA_KEY, "soon")]), None).unwrap_err().to_string();
        assert!(error.starts_with("invalid SOURCE_DATE_EPOCH from frontend: \"soon\": "), "{error}");
    }
}
