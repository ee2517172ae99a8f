//! Keeps secrets out of records: they stay for days and every client of the daemon may read them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use buildkit_api_services_control::Exporter;
use serde_json::Value;

/// Stands for what is left out, as in the original.
const MASK: &str = "xxxxx";

/// Parts of the names of options whose values are secret.
const SECRET_NAMES: [&str; 12] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "credential",
    "access_key",
    "access-key",
    "account_key",
    "private_key",
    "api_key",
    "authorization",
];

/// Most bytes of all options of one record together: a record is in memory as long as it exists.
const LIMIT: usize = 128 << 10;

/// Most exporters of one record.
const EXPORTERS: usize = 256;

/// Bytes of options that a record can still take.
pub(crate) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl Room {
    /// Options as they may be recorded: secrets are masked, and the longest are left out if there are too many.
    pub(crate) fn attrs(&mut self, attrs: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let masked = attrs.into_iter().map(|(key, value)| {
            let value = option(&key, value);
            (key, value)
        });
        let mut attrs: BTreeMap<String, String> = masked.collect();
        let mut sum: usize = attrs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if sum > self.0 {
            let mut sizes: Vec<(usize, String)> =
                attrs.iter().map(|(key, value)| (key.len() + value.len(), key.clone())).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let before = attrs.len();
            for (size, key) in sizes {
                if sum <= self.0 {
                    break;
                }
                attrs.remove(&key);
                sum -= size;
            }
            let left_out = before - attrs.len();
            tracing::debug!(left_out, "options of a build are too long for its record");
        }
        self.0 -= sum;
        attrs
    }

    /// Exporters as they may be recorded.
    pub(crate) fn exporters(&mut self, list: Vec<(String, BTreeMap<String, String>)>) -> Vec<Exporter> {
        let list = list.into_iter().take(EXPORTERS);
        list.map(|(kind, attrs)| Exporter { r#type: kind, attrs: self.attrs(attrs) }).collect()
    }
}

fn option(name: &str, value: String) -> String {
    if is_secret(name) && !value.is_empty() {
        return MASK.to_owned();
    }
    // Options of caches may be inside one option.
    if name == "cache-imports" {
        return match serde_json::from_str(&value) {
            Ok(mut json) => {
                mask(&mut json);
                json.to_string()
            }
            Err(_) => text(&value).into_owned(),
        };
    }
    text(&value).into_owned()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

fn mask(json: &mut Value) {
    // Not deeper than the parser of JSON goes.
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(_) if is_secret(name) => *value = MASK.into(),
                    other => mask(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(value) => *value = text(value).into_owned(),
        _ => {}
    }
}

/// A text whose URLs have no credentials.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    const SIGN: &str = "://";
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find(SIGN) {
        let start = at + found + SIGN.len();
        at = start;
        let scheme = text[..start - SIGN.len()].rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
        let end = text[start..]
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>' | '`'))
            .map_or(text.len(), |end| start + end);
        let Some(user) = text[start..end].rfind('@') else { continue };
        let masked = match text[start..start + user].split_once(':') {
            Some(_) => format!("{MASK}:{MASK}"),
            // The name alone is how one logs in over SSH, and may be the key over HTTP.
            None if scheme == Some("ssh") || user == 0 => continue,
            None => MASK.to_owned(),
        };
        out.push_str(&text[copied..start]);
        out.push_str(&masked);
        copied = start + user;
        at = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_04_urls_lose_their_credentials() {
        for (from, to) in [
            ("https://u:CANARY@h/r.git#main", "https://xxxxx:xxxxx@h/r.git#main"),
            ("https://CANARY@h", "https://xxxxx@h"),
            (
                "a (https://u:CAN@ARY@h:80/x) b http://:CANARY@i",
                "a (https://xxxxx:xxxxx@h:80/x) b http://xxxxx:xxxxx@i",
            ),
            ("ssh://git@h/r", "ssh://git@h/r"),
            ("ssh://git:CANARY@h/r", "ssh://xxxxx:xxxxx@h/r"),
            ("git@h:r.git", "git@h:r.git"),
            ("https://h/u@v:w", "https://h/u@v:w"),
            ("://", "://"),
            ("https://@h", "https://@h"),
            ("ä://ü:ö@ß", "ä://xxxxx:xxxxx@ß"),
        ] {
            assert_eq!(text(from), to, "{from}");
        }
    }

    #[test]
    fn a2_32_secret_options_are_masked() {
        let canary = "b5f0-canary";
        let imports = format!(
            r#"[{{"Type":"s3","Attrs":{{"secret_access_key":"{canary}","bucket":"b","url":"http://u:{canary}@h"}}}}]"#
        );
        let options = [
            ("cache-imports", imports.as_str()),
            ("secret_access_key", canary),
            ("build-arg:NPM_TOKEN", canary),
            ("build-arg:HTTPS_PROXY", "http://u:b5f0-canary@proxy"),
            ("context:base", "https://b5f0-canary@h/r.git"),
            ("target", "stage"),
            ("build-arg:EMPTY_TOKEN", ""),
        ];
        let recorded =
            Room::default().attrs(options.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(!format!("{recorded:?}").contains(canary), "{recorded:?}");
        assert_eq!(recorded["target"], "stage");
        assert_eq!(recorded["build-arg:EMPTY_TOKEN"], "");
        assert!(recorded["cache-imports"].contains(r#""bucket":"b""#), "{recorded:?}");
        assert_eq!(recorded.len(), options.len());
    }

    #[test]
    fn options_are_bounded() {
        let options =
            |size: usize| [("a".to_owned(), "x".repeat(size)), ("b".to_owned(), "y".to_owned())].into();
        let names = |attrs: BTreeMap<String, String>| attrs.into_keys().collect::<Vec<_>>();
        assert_eq!(names(Room::default().attrs(options(LIMIT))), ["b"]);
        // All parts of a record share its room.
        let mut room = Room::default();
        assert_eq!(names(room.attrs(options(LIMIT / 2))), ["a", "b"]);
        let exporters = room.exporters(vec![("local".to_owned(), options(LIMIT / 2)); 2 * EXPORTERS]);
        assert_eq!(exporters.len(), EXPORTERS);
        assert!(exporters.into_iter().all(|exporter| names(exporter.attrs.into_iter().collect()) == ["b"]));
        // Many short ones are as quick as one.
        let many = (0..200_000).map(|number| (format!("option-{number:06}"), String::new())).collect();
        assert_eq!(Room::default().attrs(many).len(), LIMIT / "option-000000".len());
    }
}
