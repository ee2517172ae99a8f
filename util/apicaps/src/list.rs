use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::CapError;
use crate::pb::ApiCap;

/// How settled a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never changes incompatibly.
    Stable,
    /// May go away; an incompatible change gets a new id.
    Experimental,
    /// As experimental, on its way to stable.
    Prerelease,
}

impl Status {
    /// The word before "feature" in an error, with its space.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Stable => "",
            Self::Experimental => "experimental ",
            Self::Prerelease => "prerelease ",
        }
    }
}

/// What one side knows of a capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Identifier on the wire.
    pub id: &'static str,
    /// For people; may be empty.
    pub name: &'static str,
    /// How settled it is.
    pub status: Status,
    /// Whether it may be used.
    pub enabled: bool,
    /// Whether it is kept for old clients only.
    pub deprecated: bool,
    /// Product and the version of it that first had the capability.
    pub supported_hint: &'static [(&'static str, &'static str)],
    /// Why it is disabled, for programs.
    pub disabled_reason: String,
    /// Why it is disabled, for people.
    pub disabled_reason_msg: String,
    /// What to use in place of it.
    pub disabled_alternative: String,
}

impl Cap {
    /// An enabled experimental capability without a name, which most are.
    pub const fn new(id: &'static str) -> Self {
        Self {
            id,
            name: "",
            status: Status::Experimental,
            enabled: true,
            deprecated: false,
            supported_hint: &[],
            disabled_reason: String::new(),
            disabled_reason_msg: String::new(),
            disabled_alternative: String::new(),
        }
    }

    /// Sets the name.
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }
}

/// All capabilities that one side knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CapList {
    caps: Arc<BTreeMap<&'static str, Cap>>,
    product: Arc<str>,
}

impl CapList {
    /// A list; of two with one id the later counts. The product is `buildkit`.
    pub fn new(caps: impl IntoIterator<Item = Cap>) -> Self {
        Self {
            caps: Arc::new(caps.into_iter().map(|cap| (cap.id, cap)).collect()),
            product: Arc::from("buildkit"),
        }
    }

    /// Names the product that users are asked to update.
    #[must_use]
    pub fn with_product(mut self, product: &str) -> Self {
        self.product = product.into();
        self
    }

    /// The product that users are asked to update.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Marks a capability as disabled with a reason for people; an unknown id changes nothing.
    #[must_use]
    pub fn with_disabled(mut self, id: &str, reason_msg: &str) -> Self {
        if let Some(cap) = Arc::make_mut(&mut self.caps).get_mut(id) {
            cap.enabled = false;
            cap.disabled_reason_msg = reason_msg.to_owned();
        }
        self
    }

    /// The list without the capabilities for which `keep` says no.
    #[must_use]
    pub fn filtered(mut self, mut keep: impl FnMut(&Cap) -> bool) -> Self {
        Arc::make_mut(&mut self.caps).retain(|_, cap| keep(cap));
        self
    }

    /// The capability with an id.
    pub fn get(&self, id: &str) -> Option<&Cap> {
        self.caps.get(id)
    }

    /// All as they are advertised, sorted by id.
    pub fn all(&self) -> Vec<ApiCap> {
        let wire = |cap: &Cap| ApiCap {
            id: cap.id.to_owned(),
            enabled: cap.enabled,
            deprecated: cap.deprecated,
            disabled_reason: cap.disabled_reason.clone(),
            disabled_reason_msg: cap.disabled_reason_msg.clone(),
            disabled_alternative: cap.disabled_alternative.clone(),
        };
        self.caps.values().map(wire).collect()
    }

    /// What can be used of this list when the other side advertises `caps`.
    pub fn cap_set(&self, caps: impl IntoIterator<Item = ApiCap>) -> CapSet {
        let set =
            caps.into_iter().filter(|cap| !cap.id.is_empty()).map(|cap| (cap.id.clone(), cap)).collect();
        CapSet { list: self.clone(), set: Arc::new(set) }
    }
}

/// What both sides of a connection can use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CapSet {
    list: CapList,
    set: Arc<HashMap<String, ApiCap>>,
}

impl CapSet {
    /// Checks that a capability can be used.
    ///
    /// # Errors
    /// Says on which side it is missing, or why it is disabled.
    pub fn supports(&self, id: &str) -> Result<(), CapError> {
        let Some(cap) = self.list.get(id) else {
            return Err(CapError::Unknown { id: id.to_owned() });
        };
        match self.set.get(id) {
            Some(state) if state.enabled => Ok(()),
            Some(state) => Err(CapError::Disabled {
                id: id.to_owned(),
                name: cap.name,
                status: cap.status,
                reason: state.disabled_reason_msg.clone(),
            }),
            None => Err(CapError::Unsupported {
                id: id.to_owned(),
                name: cap.name,
                status: cap.status,
                hint: cap
                    .supported_hint
                    .iter()
                    .find(|(product, _)| *product == self.list.product())
                    .map(|(_, version)| *version),
                product: self.list.product().to_owned(),
            }),
        }
    }

    /// Whether the other side advertises a capability, known here or not, enabled or not.
    pub fn contains(&self, id: &str) -> bool {
        self.set.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> CapList {
        CapList::new([
            Cap::new("cap1").named("a test cap"),
            Cap { enabled: false, ..Cap::new("cap2") },
            Cap {
                status: Status::Prerelease,
                supported_hint: &[("docker", "Docker v1"), ("buildkit", "BuildKit v2")],
                ..Cap::new("cap3")
            },
            Cap { status: Status::Stable, ..Cap::new("cap4").named("four") },
        ])
    }

    fn remote(id: &str, enabled: bool, msg: &str) -> ApiCap {
        ApiCap { id: id.into(), enabled, disabled_reason_msg: msg.into(), ..ApiCap::default() }
    }

    #[test]
    fn the_remote_state_decides_with_upstreams_texts() {
        let set = list().cap_set([
            remote("cap1", false, ""),
            remote("cap2", true, ""),
            remote("cap4", false, "too loud"),
            remote("other", true, ""),
            remote("", true, ""),
        ]);
        let text = |id: &str| set.supports(id).map_err(|error| error.to_string());
        assert_eq!(text("cap2"), Ok(()));
        for (id, want) in [
            (
                "cap1",
                "requested experimental feature cap1 (a test cap) has been disabled on the build server",
            ),
            (
                "cap3",
                "requested prerelease feature cap3  is not supported by build server (added in BuildKit v2), please update buildkit",
            ),
            ("cap4", "requested feature cap4 (four) has been disabled on the build server: too loud"),
            ("other", "unknown API capability other"),
        ] {
            assert_eq!(text(id), Err(want.to_owned()));
        }
        assert!(set.contains("other") && !set.contains("cap3") && !set.contains(""));
    }

    #[test]
    fn the_advertisement_is_sorted_and_carries_changes() {
        let list = list().with_disabled("cap1", "off").filtered(|cap| cap.id != "cap3");
        let all = list.all();
        let ids: Vec<_> = all.iter().map(|cap| (cap.id.as_str(), cap.enabled)).collect();
        assert_eq!(ids, [("cap1", false), ("cap2", false), ("cap4", true)]);
        assert_eq!(all[0].disabled_reason_msg, "off");
        let product = list.with_product("docker");
        let error = product.cap_set([]).supports("cap4").unwrap_err();
        assert!(error.to_string().ends_with("please update docker"), "{error}");
    }
}
