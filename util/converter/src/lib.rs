//! Rewraps a layer from one compression or tar dialect to another.
#![forbid(unsafe_code)]
#![allow(missing_docs)]
use buildkit_util_cachedigest::Digest;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::SystemTime;
pub struct Converted {
    pub diff_id: Digest,
    pub annotations: BTreeMap<String, String>,
}
pub fn convert(
    _: &mut (dyn BufRead + Send),
    _: buildkit_util_compression::Config,
    _: Option<SystemTime>,
    _: &mut (dyn Write + Send),
) -> Result<Converted, std::io::Error> {
    Err(std::io::ErrorKind::Unsupported.into())
}
