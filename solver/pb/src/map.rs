//! Protobuf maps as the lists of entries that LLB types have in their place.
//!
//! A list can say all that the wire can: entries without a key or value, twice the same key, any
//! order. Maps are what is meant: a part that is missing has its default, and of two entries with
//! one key the last counts.

use std::collections::BTreeMap;

use crate::{BuildInput, Locations, OpMetadata, build_op, definition, op_metadata, source, source_op};

/// An entry of a protobuf map with string keys.
pub trait MapEntry: Sized {
    /// Type of the values.
    type Value: Default;

    /// An entry with both parts present.
    fn new(key: String, value: Self::Value) -> Self;
    /// The key; a missing one is empty.
    fn key(&self) -> &str;
    /// The value, if present.
    fn value(&self) -> Option<&Self::Value>;
    /// Both parts, defaults in place of missing ones.
    fn into_parts(self) -> (String, Self::Value);
    /// Whether both parts are present.
    fn is_whole(&self) -> bool;
}

macro_rules! entries {
    ($($entry:ty => $value:ty;)*) => {$(
        impl MapEntry for $entry {
            type Value = $value;

            fn new(key: String, value: $value) -> Self {
                Self { key: Some(key), value: Some(value) }
            }

            fn key(&self) -> &str {
                self.key.as_deref().unwrap_or_default()
            }

            fn value(&self) -> Option<&$value> {
                self.value.as_ref()
            }

            fn into_parts(self) -> (String, $value) {
                (self.key.unwrap_or_default(), self.value.unwrap_or_default())
            }

            fn is_whole(&self) -> bool {
                self.key.is_some() && self.value.is_some()
            }
        }
    )*};
}

entries! {
    source_op::AttrsEntry => String;
    build_op::AttrsEntry => String;
    build_op::InputsEntry => BuildInput;
    definition::MetadataEntry => OpMetadata;
    op_metadata::DescriptionEntry => String;
    op_metadata::CapsEntry => bool;
    source::LocationsEntry => Locations;
}

/// The entries of a map, sorted by key, which is how they are encoded deterministically.
pub fn from_map<E: MapEntry>(map: impl IntoIterator<Item = (String, E::Value)>) -> Vec<E> {
    let sorted: BTreeMap<_, _> = map.into_iter().collect();
    sorted.into_iter().map(|(key, value)| E::new(key, value)).collect()
}

/// The map that some entries stand for.
pub fn to_map<E: MapEntry>(entries: impl IntoIterator<Item = E>) -> BTreeMap<String, E::Value> {
    entries.into_iter().map(E::into_parts).collect()
}

/// The value under a key. Takes time in the number of entries: use [`to_map`] for many lookups.
pub fn get<E: MapEntry>(entries: &[E], key: &str) -> Option<E::Value>
where
    E::Value: Clone,
{
    let entry = entries.iter().rev().find(|entry| entry.key() == key)?;
    Some(entry.value().cloned().unwrap_or_default())
}

/// Sets the value under a key and keeps the other entries as they are.
pub fn set<E: MapEntry>(entries: &mut Vec<E>, key: &str, value: E::Value) {
    entries.retain(|entry| entry.key() != key);
    let at = entries.partition_point(|entry| entry.key() < key);
    entries.insert(at, E::new(key.to_owned(), value));
}

/// Whether the entries are those of a map in deterministic order.
pub(crate) fn is_canonical<E: MapEntry>(entries: &[E]) -> bool {
    entries.iter().all(E::is_whole) && entries.is_sorted_by(|a, b| a.key() < b.key())
}

/// Makes the entries those of a map in deterministic order.
pub(crate) fn canonicalise<E: MapEntry>(entries: &mut Vec<E>) {
    if !is_canonical(entries) {
        *entries = from_map(to_map(std::mem::take(entries)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source_op::AttrsEntry;

    fn entry(key: Option<&str>, value: Option<&str>) -> AttrsEntry {
        AttrsEntry { key: key.map(str::to_owned), value: value.map(str::to_owned) }
    }

    #[test]
    fn entries_mean_what_the_map_means() {
        let mut entries = vec![
            entry(Some("b"), Some("1")),
            entry(None, Some("2")),
            entry(Some("a"), None),
            entry(Some("b"), Some("3")),
        ];
        assert_eq!(get(&entries, "b").as_deref(), Some("3"));
        assert_eq!(get(&entries, "").as_deref(), Some("2"));
        assert_eq!(get(&entries, "a").as_deref(), Some(""));
        assert_eq!(get(&entries, "c"), None);
        canonicalise(&mut entries);
        let whole = |key, value| entry(Some(key), Some(value));
        assert_eq!(entries, [whole("", "2"), whole("a", ""), whole("b", "3")]);
        set(&mut entries, "a", "4".into());
        set(&mut entries, "aa", "5".into());
        assert_eq!(entries, [whole("", "2"), whole("a", "4"), whole("aa", "5"), whole("b", "3")]);
        assert!(is_canonical(&entries));
    }
}
