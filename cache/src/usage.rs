use std::time::SystemTime;

use crate::{Filter, RecordType, RefId};

/// Disk use of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    /// The record.
    pub id: RefId,
    /// Whether it can be changed.
    pub mutable: bool,
    /// Whether a build, or a record that a build uses, needs it now.
    pub in_use: bool,
    /// Bytes allocated on disk, without its parents. 0 while it is being changed.
    pub size: i64,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was last released.
    pub last_used_at: Option<SystemTime>,
    /// How often it was released.
    pub usage_count: u64,
    /// What it is made of.
    pub parents: Vec<RefId>,
    /// For people.
    pub description: String,
    /// What it is for.
    pub record_type: RecordType,
    /// Whether something outside the cache uses the same files.
    pub shared: bool,
}

impl UsageRecord {
    /// Whether a filter chooses it, by upstream's fields: `id`, `parents` (joined by `;`),
    /// `description`, `inuse`, `mutable`, `immutable`, `type`, `shared`, `private`.
    pub fn matches(&self, filter: &Filter) -> bool {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let flag = |is: bool| is.then(String::new);
        filter.matches(&|path: &[&str]| match path.first().copied() {
            Some("id") => text(self.id.as_str()),
            Some("parents") => text(&self.parents.iter().map(RefId::as_str).collect::<Vec<_>>().join(";")),
            Some("description") => text(&self.description),
            Some("inuse") => flag(self.in_use),
            Some("mutable") => flag(self.mutable),
            Some("immutable") => flag(!self.mutable),
            Some("type") => text(self.record_type.as_str()),
            Some("shared") => flag(self.shared),
            Some("private") => flag(!self.shared),
            _ => None,
        })
    }
}
