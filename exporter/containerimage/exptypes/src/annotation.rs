use std::fmt;

use buildkit_util_ocispec::Platform;

use crate::platforms::{MetadataError, platform_id};

/// What an annotation is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationKind {
    /// The index.
    Index,
    /// The descriptor of the index, in the layout that it is exported to.
    IndexDescriptor,
    /// The manifest.
    Manifest,
    /// The descriptor of the manifest, in the index or layout.
    ManifestDescriptor,
}

impl AnnotationKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::IndexDescriptor => "index-descriptor",
            Self::Manifest => "manifest",
            Self::ManifestDescriptor => "manifest-descriptor",
        }
    }
}

/// The key of an option, or of metadata, that sets an annotation:
/// `annotation[-<kind>][[<platform>]].<key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationKey {
    /// What it is written to.
    pub kind: AnnotationKind,
    /// The only platform that it is for.
    pub platform: Option<Platform>,
    /// Key of the annotation itself.
    pub key: String,
}

impl AnnotationKey {
    /// Reads a key; `None` if it is none of these.
    ///
    /// # Errors
    /// When the kind or the platform makes no sense.
    pub fn parse(text: &str) -> Result<Option<Self>, MetadataError> {
        let Some((kind, platform, key)) = split(text) else { return Ok(None) };
        let kind = match kind {
            "index" => AnnotationKind::Index,
            "index-descriptor" => AnnotationKind::IndexDescriptor,
            "" | "manifest" => AnnotationKind::Manifest,
            "manifest-descriptor" => AnnotationKind::ManifestDescriptor,
            other => return Err(MetadataError(format!("unrecognized annotation type {other}"))),
        };
        let platform = match platform {
            "" => None,
            platform => {
                Some(platform.parse().map_err(|error: buildkit_util_ocispec::ParsePlatformError| {
                    MetadataError(format!("invalid annotation {text:?}: {error}"))
                })?)
            }
        };
        Ok(Some(Self { kind, platform, key: key.to_owned() }))
    }

    /// Id of the platform; empty if it is for all.
    pub fn platform_id(&self) -> String {
        self.platform.as_ref().map(platform_id).unwrap_or_default()
    }
}

/// Kind, platform and key, if the text has the form. An absent kind or platform is empty.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let take = |text: &'_ str, is_in: fn(u8) -> bool| text.bytes().take_while(|&byte| is_in(byte)).count();
    let mut rest = text.strip_prefix("annotation")?;
    let (mut kind, mut platform) = ("", "");
    if let Some(after) = rest.strip_prefix('-') {
        (kind, rest) = after.split_at(take(after, |byte| byte.is_ascii_lowercase() || byte == b'-'));
        (!kind.is_empty()).then_some(())?;
    }
    if let Some(after) = rest.strip_prefix('[') {
        let is_in = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'-');
        (platform, rest) = after.split_at(take(after, is_in));
        (!platform.is_empty()).then_some(())?;
        rest = rest.strip_prefix(']')?;
    }
    let key = rest.strip_prefix('.')?;
    let is_key = !key.is_empty() && !key.bytes().any(|byte| b"\t\n\x0c\r ".contains(&byte));
    is_key.then_some((kind, platform, key))
}

impl fmt::Display for AnnotationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation-{}", self.kind.as_str())?;
        let is_of_manifest =
            matches!(self.kind, AnnotationKind::Manifest | AnnotationKind::ManifestDescriptor);
        if let Some(platform) = self.platform.as_ref().filter(|_| is_of_manifest) {
            write!(f, "[{}]", platform_id(platform))?;
        }
        write!(f, ".{}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written() {
        for (text, written) in [
            ("annotation.a", "annotation-manifest.a"),
            ("annotation-manifest.a.b[c]", "annotation-manifest.a.b[c]"),
            ("annotation[linux/arm64].a", "annotation-manifest[linux/arm64].a"),
            ("annotation-manifest-descriptor[linux/arm].a", "annotation-manifest-descriptor[linux/arm/v7].a"),
            ("annotation-index.a", "annotation-index.a"),
            ("annotation-index-descriptor.a=b", "annotation-index-descriptor.a=b"),
        ] {
            let key = AnnotationKey::parse(text).unwrap().unwrap();
            assert_eq!(key.to_string(), written);
        }
        for text in [
            "annotation",
            "annotation.",
            "annotation-.a",
            "annotation-Index.a",
            "annotation[].a",
            "annotation[linux.x].a",
            "annotation[linux/amd64]a",
            "annotation[linux/amd64].a b",
            "annotations.a",
            "an.annotation.a",
        ] {
            assert_eq!(AnnotationKey::parse(text), Ok(None), "{text}");
        }
        let error = AnnotationKey::parse("annotation-layer.a").unwrap_err();
        assert_eq!(error.to_string(), "unrecognized annotation type layer");
        assert!(AnnotationKey::parse("annotation[a/b/c/d].a").is_err());
    }
}
