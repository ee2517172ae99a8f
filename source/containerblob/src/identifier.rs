use buildkit_cache::RecordType;
use buildkit_solver_pb::attr;
use buildkit_source::{Error, Identifier};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::Object;
use buildkit_util_reference::Reference;

pub(crate) const IMAGE_SCHEME: &str = "docker-image+blob";
pub(crate) const LAYOUT_SCHEME: &str = "oci-layout+blob";

/// Name of a file of which nobody said a usable one.
const DEFAULT_NAME: &str = "download";

/// Where a blob is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a repository.
    Registry(Reference),
    /// In a store of a client.
    Layout {
        /// Name of the store.
        store: String,
        /// The session that has it; empty for any of the build's.
        session: String,
    },
}

/// What an identifier and its attributes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// As it was given, for people.
    pub(crate) text: String,
    pub(crate) place: Place,
    pub(crate) digest: Digest,
    /// Empty for the digest's hexadecimal part.
    pub(crate) filename: String,
    /// 0 for 0600.
    pub(crate) perm: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) record_type: RecordType,
}

impl Options {
    pub(crate) fn parse(identifier: &Identifier) -> Result<Self, Error> {
        let text = format!("{}://{}", identifier.scheme, identifier.reference);
        let digest = identifier.reference.rsplit_once('@').map_or("", |(_, digest)| digest);
        let digest =
            Digest::parse(digest).ok().filter(|digest| digest.algorithm() == "sha256").ok_or_else(|| {
                Error::Invalid(format!(
                    "invalid reference digest: `{text}` must end in `@sha256:` and a digest"
                ))
            })?;
        let attr = |key: &str| identifier.attrs.get(key);
        let place = if identifier.scheme == LAYOUT_SCHEME {
            let store = attr(attr::OCI_LAYOUT_STORE_ID).filter(|store| !store.is_empty());
            let store =
                store.ok_or_else(|| Error::Invalid("oci-layout blob source requires store id".to_owned()))?;
            let session = attr(attr::OCI_LAYOUT_SESSION_ID).cloned().unwrap_or_default();
            Place::Layout { store: store.clone(), session }
        } else {
            let invalid = |error| Error::Invalid(format!("Invalid blob `{text}`: {error}"));
            Place::Registry(Reference::parse(&identifier.reference).map_err(invalid)?)
        };
        let number = |key: &str, largest: u32| match attr(key) {
            None => Ok(0),
            Some(text) => {
                let number = parse_int(text).and_then(|number| u32::try_from(number).ok());
                number.filter(|number| *number <= largest).ok_or_else(|| {
                    Error::Invalid(format!(
                        "Invalid value for `{key}`: {text:?} is no number up to {largest}"
                    ))
                })
            }
        };
        Ok(Self {
            place,
            digest,
            filename: attr(attr::HTTP_FILENAME).map(|name| safe_name(name)).unwrap_or_default(),
            // Higher bits have no meaning for those who write them, and make another key only.
            perm: number(attr::HTTP_PERM, u32::MAX)?,
            // The largest stands for no change of an owner.
            uid: number(attr::HTTP_UID, u32::MAX - 1)?,
            gid: number(attr::HTTP_GID, u32::MAX - 1)?,
            record_type: record_type(attr(attr::IMAGE_RECORD_TYPE).map_or("", String::as_str))?,
            text,
        })
    }

    /// The key under which caches of all daemons know the file.
    pub(crate) fn key(&self) -> Digest {
        let mut json = String::new();
        let mut object = Object::new(&mut json);
        object.field("Digest", self.digest.as_str());
        object.field("Filename", self.filename.as_str());
        object.field("Perm", &self.perm);
        object.field("UID", &self.uid);
        object.field("GID", &self.gid);
        drop(object);
        Digest::sha256(json)
    }

    /// Name of the file.
    pub(crate) fn name(&self) -> &str {
        if self.filename.is_empty() { self.digest.encoded() } else { &self.filename }
    }

    /// Permissions of the file.
    pub(crate) fn mode(&self) -> u32 {
        if self.perm == 0 { 0o600 } else { self.perm & 0o777 }
    }
}

fn record_type(text: &str) -> Result<RecordType, Error> {
    match text {
        "" | "regular" => Ok(RecordType::Regular),
        "internal" => Ok(RecordType::Internal),
        "frontend" => Ok(RecordType::Frontend),
        _ => Err(Error::Invalid(format!("invalid record type {text}"))),
    }
}

/// A number as Go's `strconv.ParseInt` reads it when it has to find the base out.
fn parse_int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

/// The last part of a path, if that can be the name of a file.
fn safe_name(text: &str) -> String {
    let name = text.trim().trim_end_matches('/');
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    if matches!(name, "" | "." | "..") || name.chars().any(char::is_control) {
        return DEFAULT_NAME.to_owned();
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn parse(scheme: &str, reference: &str, attrs: &[(&str, &str)]) -> Result<Options, Error> {
        Options::parse(&Identifier {
            scheme: scheme.to_owned(),
            reference: reference.to_owned(),
            attrs: attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            platform: None,
        })
    }

    fn image(attrs: &[(&str, &str)]) -> Result<Options, Error> {
        parse(IMAGE_SCHEME, &format!("docker.io/library/busybox@sha256:{HEX}"), attrs)
    }

    #[test]
    fn attributes_and_keys() {
        let plain = image(&[]).expect("is right");
        assert_eq!((plain.name(), plain.mode()), (HEX, 0o600));
        let json = format!(r#"{{"Digest":"sha256:{HEX}","Filename":"","Perm":0,"UID":0,"GID":0}}"#);
        assert_eq!(plain.key(), Digest::sha256(json));
        let full = image(&[
            ("http.filename", " a/b<c "),
            ("http.perm", "0644"),
            ("http.uid", "0x10"),
            ("http.gid", "7"),
            ("image.recordtype", "frontend"),
            ("oci.store", "ignored"),
        ])
        .expect("is right");
        assert_eq!((full.name(), full.mode(), full.uid, full.gid), ("b<c", 0o644, 16, 7));
        assert_eq!(full.record_type, RecordType::Frontend);
        assert!(matches!(full.place, Place::Registry(_)));
        let json =
            format!(r#"{{"Digest":"sha256:{HEX}","Filename":"b\u003cc","Perm":420,"UID":16,"GID":7}}"#);
        assert_eq!(full.key(), Digest::sha256(json));

        // Where it is does not matter to the key.
        let reference = format!("not/real@sha256:{HEX}");
        let attrs = [("oci.store", "mine"), ("oci.session", "abc")];
        let layout = parse(LAYOUT_SCHEME, &reference, &attrs).expect("is right");
        assert_eq!(layout.place, Place::Layout { store: "mine".to_owned(), session: "abc".to_owned() });
        assert_eq!(layout.key(), plain.key());
    }

    #[test]
    fn a2_16_blobs_need_a_whole_digest() {
        let hex63 = &HEX[1..];
        for digest in [
            "",
            "sha256:../../x",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("sha256:{hex63}"),
            &format!("sha256:{HEX}a"),
            &format!("sha256:{hex63}A"),
            &format!("sha256:{HEX}/"),
        ] {
            for scheme in [IMAGE_SCHEME, LAYOUT_SCHEME] {
                let attrs = [("oci.store", "mine")];
                assert!(parse(scheme, &format!("a.b/c@{digest}"), &attrs).is_err(), "{digest}");
            }
        }
        assert!(parse(IMAGE_SCHEME, "a.b/c:tag", &[]).is_err());
        let error = parse(LAYOUT_SCHEME, &format!("a/b@sha256:{HEX}"), &[]).expect_err("no store");
        assert_eq!(error.to_string(), "oci-layout blob source requires store id");
    }

    #[test]
    fn a2_09_owners_are_numbers_that_exist() {
        for value in ["-1", "4294967295", "4294967296", "", "x", "1:", " 0", "0x", "١"] {
            assert!(image(&[("http.uid", value)]).is_err(), "{value}");
            assert!(image(&[("http.gid", value)]).is_err(), "{value}");
        }
        assert!(image(&[("http.perm", "-1")]).is_err());
        assert!(image(&[("image.recordtype", "other")]).is_err());
        for (text, number) in [("0", Some(0)), ("0b11", Some(3)), ("0O17", Some(15)), ("017", Some(15))] {
            assert_eq!(parse_int(text), number, "{text}");
        }
    }

    #[test]
    fn names_are_those_of_files() {
        for (text, name) in [
            ("foo.txt", "foo.txt"),
            ("  資料.txt  ", "資料.txt"),
            ("a/b/c.txt", "c.txt"),
            ("a/b/", "b"),
            ("", "download"),
            ("/", "download"),
            (".", "download"),
            ("..", "download"),
            ("../", "download"),
            ("a\0b", "download"),
            ("a\nb", "download"),
            ("..\\", "..\\"),
        ] {
            assert_eq!(safe_name(text), name, "{text:?}");
        }
    }
}
