use std::collections::BTreeMap;

use buildkit_exporter::{Error, ExportResult};
use buildkit_exporter_util_epoch as epoch;
use buildkit_util_gotext::{bool_error, parse_bool};

/// What happens to files that are in the directory already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They stay if the result has nothing of their name.
    #[default]
    Copy,
    /// They are removed, so that the directory is the result.
    Delete,
}

/// Options about the trees of a result, for exporters of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// The time of all files, in seconds since 1970: `Some(None)` if the user wants their own times.
    pub epoch: Option<Option<i64>>,
    /// What the names of attestations start with.
    pub attestation_prefix: String,
    /// Whether each platform gets a directory of its own; by default if there are several.
    pub platform_split: Option<bool>,
    /// What happens to files that are there.
    pub mode: Mode,
}

impl TreeOptions {
    /// Reads the options of a request. Those of others are not looked at.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that make no sense.
    pub fn parse(attrs: &BTreeMap<String, String>) -> Result<Self, Error> {
        let epoch = epoch::from_attrs(attrs).map_err(|error| Error::Invalid(error.to_string()))?;
        let mut options = Self { epoch, ..Self::default() };
        for (key, value) in attrs {
            match key.as_str() {
                "attestation-prefix" => options.attestation_prefix.clone_from(value),
                "platform-split" => {
                    let split = parse_bool(value).ok_or_else(|| {
                        Error::Invalid(format!("non-bool value for {key}: {value}: {}", bool_error(value)))
                    })?;
                    options.platform_split = Some(split);
                }
                "mode" => {
                    options.mode = match value.trim().to_lowercase().as_str() {
                        "" | "copy" => Mode::Copy,
                        "delete" => Mode::Delete,
                        _ => {
                            let message = format!("invalid local exporter mode {value:?}");
                            return Err(Error::Invalid(message));
                        }
                    };
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// Whether platforms get directories of their own.
    pub fn splits(&self, several: bool) -> bool {
        self.platform_split.unwrap_or(several)
    }

    /// The time of the files of a platform: the user's choice, or else the frontend's.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the frontend's makes no sense.
    pub(crate) fn epoch_of(&self, result: &ExportResult, id: &str) -> Result<Option<i64>, Error> {
        match self.epoch {
            Some(epoch) => Ok(epoch),
            None => epoch::from_metadata(&result.metadata, Some(id))
                .map_err(|error| Error::Invalid(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(attrs: &[(&str, &str)]) -> Result<TreeOptions, String> {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        TreeOptions::parse(&attrs.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn options() {
        let options = parse(&[
            ("source-date-epoch", "-5"),
            ("platform-split", "False"),
            ("mode", " DELETE "),
            ("attestation-prefix", "a-"),
            ("unknown", "x"),
        ])
        .expect("are right");
        let expect = TreeOptions {
            epoch: Some(Some(-5)),
            attestation_prefix: "a-".to_owned(),
            platform_split: Some(false),
            mode: Mode::Delete,
        };
        assert_eq!(options, expect);
        assert!(!options.splits(true));
        let default = parse(&[("source-date-epoch", "")]).expect("are right");
        assert_eq!((default.epoch, default.splits(true), default.splits(false)), (Some(None), true, false));
        for (key, value, expect) in [
            ("mode", "move", "invalid local exporter mode \"move\""),
            (
                "source-date-epoch",
                "x",
                "invalid source-date-epoch: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "platform-split",
                "maybe",
                "non-bool value for platform-split: maybe: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(parse(&[(key, value)]).expect_err("is wrong"), expect);
        }
    }

    #[test]
    fn frontends_choose_times() {
        let mut result = ExportResult::default();
        result.metadata.insert("source.date.epoch/linux/arm64".to_owned(), "7".into());
        let options = TreeOptions::default();
        assert_eq!(options.epoch_of(&result, "linux/arm64").expect("is right"), Some(7));
        assert_eq!(options.epoch_of(&result, "linux/amd64").expect("is right"), None);
        result.metadata.insert("source.date.epoch".to_owned(), "9".into());
        assert_eq!(options.epoch_of(&result, "linux/arm64").expect("is right"), Some(9));
        let fixed = TreeOptions { epoch: Some(None), ..options.clone() };
        assert_eq!(fixed.epoch_of(&result, "linux/arm64").expect("is right"), None);
        result.metadata.insert("source.date.epoch".to_owned(), "soon".into());
        assert!(options.epoch_of(&result, "linux/arm64").is_err());
    }
}
