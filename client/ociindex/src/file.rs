//! The index as it stands in its file: parts that are not known here stay as they are.

use std::collections::BTreeMap;

use buildkit_util_ocispec::{Descriptor, to_json};
use serde::Deserialize;
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Largest index that is read, in bytes.
pub(crate) const LARGEST: u64 = 64 << 20;

/// Fields in the order in which Go programs write them; others come after.
const ORDER: &[&str] = &["schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"];

pub(crate) struct IndexFile {
    fields: BTreeMap<String, Box<RawValue>>,
    pub(crate) manifests: Vec<Box<RawValue>>,
}

/// What tells the entries of an index apart.
#[derive(Default, Deserialize)]
pub(crate) struct Annotated {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Annotated {
    /// That of an entry. One that cannot be read has no names.
    pub(crate) fn of(manifest: &RawValue) -> Self {
        serde_json::from_str(manifest.get()).unwrap_or_default()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

impl IndexFile {
    /// Parses an index; nothing is an empty one.
    pub(crate) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        let mut fields: BTreeMap<String, Box<RawValue>> =
            if bytes.is_empty() { BTreeMap::new() } else { serde_json::from_slice(bytes)? };
        let manifests = match fields.remove("manifests") {
            Some(manifests) => {
                serde_json::from_str::<Option<Vec<Box<RawValue>>>>(manifests.get())?.unwrap_or_default()
            }
            None => Vec::new(),
        };
        Ok(Self { fields, manifests })
    }

    /// Sets what an index must say of itself.
    pub(crate) fn complete(&mut self) -> serde_json::Result<()> {
        let is_set = |value: Option<&Box<RawValue>>, empty: &str| {
            value.is_some_and(|value| value.get() != empty && value.get() != "null")
        };
        if !is_set(self.fields.get("schemaVersion"), "0") {
            self.fields.insert("schemaVersion".to_owned(), serde_json::value::to_raw_value(&2)?);
        }
        if !is_set(self.fields.get("mediaType"), "\"\"") {
            let kind = buildkit_util_ocispec::media_type::OCI_INDEX;
            self.fields.insert("mediaType".to_owned(), serde_json::value::to_raw_value(kind)?);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, manifest: &Descriptor) -> serde_json::Result<()> {
        let json = String::from_utf8(to_json(manifest)).map_err(serde::ser::Error::custom)?;
        self.manifests.push(RawValue::from_string(json)?);
        Ok(())
    }
}

impl Serialize for IndexFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pairs: Vec<(&str, Part<'_>)> =
            self.fields.iter().map(|(key, value)| (key.as_str(), Part::Field(value))).collect();
        pairs.push(("manifests", Part::Manifests(&self.manifests)));
        let place = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
        pairs.sort_by_key(|(key, _)| place(key));
        serializer.collect_map(pairs)
    }
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Field(&'a RawValue),
    Manifests(&'a [Box<RawValue>]),
}
