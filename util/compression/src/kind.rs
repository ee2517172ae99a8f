use std::fmt;
use std::str::FromStr;

use buildkit_errdefs::{Classify, Kind};

/// How layers are compressed, by the names that exporters know (upstream `util/compression`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    Uncompressed,
    /// One member of gzip.
    #[default]
    Gzip,
    /// Members of gzip that can be found one by one (stargz-snapshotter, `docs/estargz.md`).
    EStargz,
    /// One frame of zstd.
    Zstd,
}

/// No compression has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported compression type {0}")]
pub struct ParseError(String);

impl Classify for ParseError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Compression {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uncompressed => "uncompressed",
            Self::Gzip => "gzip",
            Self::EStargz => "estargz",
            Self::Zstd => "zstd",
        }
    }

    /// What stands behind `+` in the media type of such a layer, or `.` in docker's.
    pub fn media_type_suffix(self) -> Option<&'static str> {
        match self {
            Self::Uncompressed => None,
            Self::Gzip | Self::EStargz => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

impl FromStr for Compression {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        [Self::Uncompressed, Self::Gzip, Self::EStargz, Self::Zstd]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ParseError(text.to_owned()))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A compression, how hard it tries, and whether layers that have another one are compressed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// The kind.
    pub kind: Compression,
    /// Its level; `None` is its default: 6 of 9 for gzip, 3 of 22 for zstd. Out of bounds is as near as
    /// possible.
    pub level: Option<i32>,
    /// Layers with another compression are converted.
    pub force: bool,
}
