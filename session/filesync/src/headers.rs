//! Lists of strings as gRPC metadata.

use std::fmt::Write as _;

use buildkit_util_gotext::parse_bool;
use http::HeaderMap;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

use crate::Error;

/// Which exporter of a build a call belongs to: its position in the request.
pub const EXPORTER_ID_HEADER: &str = "buildkit-attachable-exporter-id";

pub(crate) const DIR_NAME: &str = "dir-name";
pub(crate) const INCLUDE: &str = "include-patterns";
pub(crate) const EXCLUDE: &str = "exclude-patterns";
pub(crate) const FOLLOW: &str = "followpaths";
pub(crate) const MULTI_PLATFORM: &str = "buildkit-exporter-multi-platform";
pub(crate) const FILE_METADATA: &str = "exporter-md-";

/// Sets a key to a list of values. If one of them is not printable ASCII all are escaped as in a URL
/// query, and a second key says so.
pub(crate) fn set(map: &mut MetadataMap, key: &str, values: &[String]) -> Result<(), Error> {
    let invalid = || Error::Client {
        kind: buildkit_errdefs::Kind::InvalidArgument,
        message: format!("Invalid value for `{key}`"),
    };
    // Blanks at the ends would be lost on the way.
    let plain = values.iter().all(|value| {
        value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) && value.trim_matches(' ') == value
    });
    let name = AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|_| invalid())?;
    for value in values {
        let value = if plain { value.clone() } else { escape(value) };
        let value = AsciiMetadataValue::try_from(value).map_err(|_| invalid())?;
        map.append(name.clone(), value);
    }
    if !plain {
        let name = format!("{key}-encoded");
        let name = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        map.insert(name, AsciiMetadataValue::from_static("1"));
    }
    Ok(())
}

/// The values of a key; such that are not text are left out, such that are badly escaped are empty.
pub(crate) fn get(map: &HeaderMap, key: &str) -> Vec<String> {
    let texts = |key: &str| -> Vec<String> {
        let values = map.get_all(key).iter();
        values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)).collect()
    };
    let escaped =
        texts(&format!("{key}-encoded")).first().is_some_and(|value| parse_bool(value) == Some(true));
    let values = texts(key);
    if escaped { values.iter().map(|value| unescape(value).unwrap_or_default()).collect() } else { values }
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into());
            }
            b' ' => out.push('+'),
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
    out
}

fn unescape(value: &str) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[String]) -> (Vec<String>, bool) {
        let mut map = MetadataMap::new();
        set(&mut map, INCLUDE, values).expect("can be sent");
        let escaped = map.contains_key("include-patterns-encoded");
        (get(&map.into_headers(), INCLUDE), escaped)
    }

    #[test]
    fn escapes_when_needed() {
        let plain = ["a b%20+c".to_owned(), "!x/**".to_owned(), String::new()];
        assert_eq!(round_trip(&plain), (plain.to_vec(), false));
        let text = ["a b+c".to_owned(), "ü/é".to_owned()];
        assert_eq!(round_trip(&text), (text.to_vec(), true));
        assert_eq!(escape("a b+c/é~"), "a+b%2Bc%2F%C3%A9~");
        assert_eq!(unescape("%zz"), None);
        assert_eq!(unescape("%4"), None);
        assert_eq!(unescape("%ff"), None);
    }

    proptest! {
        #[test]
        fn any_values_arrive(values in prop::collection::vec("\\PC{0,8}|[ -~\n]{0,8}", 0..4)) {
            prop_assert_eq!(round_trip(&values).0, values);
        }
    }
}
