use std::collections::BTreeMap;

use buildkit_exporter_containerimage_exptypes::{AnnotationKey, AnnotationKind, MetadataError, platform_id};
use buildkit_util_ocispec::Platform;

/// Annotations by what they are written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Of the index.
    pub index: BTreeMap<String, String>,
    /// Of the descriptor of the index.
    pub index_descriptor: BTreeMap<String, String>,
    /// Of the manifest.
    pub manifest: BTreeMap<String, String>,
    /// Of the descriptor of the manifest.
    pub manifest_descriptor: BTreeMap<String, String>,
}

/// The annotations of an export, by the platform that they are for; those for all have an empty id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnotationGroup(BTreeMap<String, Annotations>);

impl AnnotationGroup {
    /// Reads the annotations among options or metadata; others are not looked at.
    ///
    /// # Errors
    /// When one is of an unknown kind, or its platform makes no sense.
    pub fn parse<V: AsRef<[u8]>>(entries: &BTreeMap<String, V>) -> Result<Self, MetadataError> {
        let mut group = Self::default();
        for (text, value) in entries {
            let Some(key) = AnnotationKey::parse(text)? else { continue };
            let of_platform = group.0.entry(key.platform_id()).or_default();
            let annotations = match key.kind {
                AnnotationKind::Index => &mut of_platform.index,
                AnnotationKind::IndexDescriptor => &mut of_platform.index_descriptor,
                AnnotationKind::Manifest => &mut of_platform.manifest,
                AnnotationKind::ManifestDescriptor => &mut of_platform.manifest_descriptor,
            };
            annotations.insert(key.key, String::from_utf8_lossy(value.as_ref()).into_owned());
        }
        Ok(group)
    }

    /// Adds others, which go before those that are there.
    pub fn merge(&mut self, other: Self) {
        for (id, added) in other.0 {
            let there = self.0.entry(id).or_default();
            there.index.extend(added.index);
            there.index_descriptor.extend(added.index_descriptor);
            there.manifest.extend(added.manifest);
            there.manifest_descriptor.extend(added.manifest_descriptor);
        }
    }

    /// The annotations for an image. Those of an index are the same whoever asks, since there is one.
    pub fn of(&self, platform: Option<&Platform>) -> Annotations {
        let mut found = Annotations::default();
        for group in self.0.values() {
            found.index.extend(group.index.clone());
            found.index_descriptor.extend(group.index_descriptor.clone());
        }
        for id in [Some(String::new()), platform.map(platform_id)].into_iter().flatten() {
            if let Some(group) = self.0.get(&id) {
                found.manifest.extend(group.manifest.clone());
                found.manifest_descriptor.extend(group.manifest_descriptor.clone());
            }
        }
        found
    }

    /// Ids of the platforms that some are for.
    pub(crate) fn platforms(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|id| !id.is_empty())
    }

    /// Whether there are some that Docker's documents have no place for.
    pub(crate) fn need_oci(&self) -> bool {
        self.0.values().any(|group| {
            !group.index.is_empty()
                || !group.index_descriptor.is_empty()
                || !group.manifest_descriptor.is_empty()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(entries: &[(&str, &str)]) -> AnnotationGroup {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        AnnotationGroup::parse(&entries).unwrap()
    }

    fn text(annotations: &BTreeMap<String, String>) -> String {
        annotations.iter().map(|(key, value)| format!("{key}={value};")).collect()
    }

    #[test]
    fn annotations_are_found_by_platform() {
        let mut all = group(&[
            ("annotation.a", "1"),
            ("annotation[linux/arm64].a", "2"),
            ("annotation-manifest-descriptor[linux/amd64].d", "3"),
            ("annotation-index.i", "4"),
            ("annotation-index-descriptor[linux/amd64].j", "5"),
            ("name", "x"),
        ]);
        let arm = all.of(Some(&Platform::new("linux", "arm64")));
        assert_eq!((text(&arm.manifest), text(&arm.manifest_descriptor)), ("a=2;".to_owned(), String::new()));
        let amd = all.of(Some(&Platform::new("linux", "amd64")));
        assert_eq!((text(&amd.manifest), text(&amd.manifest_descriptor)), ("a=1;".into(), "d=3;".into()));
        let none = all.of(None);
        assert_eq!((text(&none.index), text(&none.index_descriptor)), ("i=4;".into(), "j=5;".into()));
        assert_eq!(all.platforms().collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
        assert!(all.need_oci());
        assert!(!group(&[("annotation.a", "1"), ("annotation-manifest.b", "1")]).need_oci());
        all.merge(group(&[("annotation.a", "6"), ("annotation.b", "7")]));
        assert_eq!(text(&all.of(None).manifest), "a=6;b=7;");
    }
}
