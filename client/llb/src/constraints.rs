use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use buildkit_solver_pb as pb;

use crate::{Platform, Range, SourceMap};

/// Description key whose value is shown as the name of a step.
const CUSTOM_NAME: &str = "llb.customname";

/// Limits of a process; 0 or empty is no limit. They are no part of the op, so they do not change
/// what the cache knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxResources {
    /// Memory in bytes.
    pub memory: i64,
    /// Memory and swap together in bytes.
    pub memory_swap: i64,
    /// Relative weight of processor time.
    pub cpu_shares: u64,
    /// Length of a scheduling period in microseconds.
    pub cpu_period: u64,
    /// Processor time per period in microseconds.
    pub cpu_quota: i64,
    /// Processors that may be used, such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used.
    pub cpuset_mems: String,
}

/// What is said about an op rather than what it does: where it may run and how it is shown.
///
/// Given to a single op, or to [`MarshalOptions`](crate::MarshalOptions) as the default for all.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    pub(crate) platform: Option<Platform>,
    pub(crate) worker: Vec<String>,
    pub(crate) metadata: Metadata,
    pub(crate) unique_id: Option<String>,
    pub(crate) locations: Vec<Location>,
}

#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) map: Arc<SourceMap>,
    pub(crate) ranges: Vec<Range>,
}

/// Metadata of an op, in a form that merges.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metadata {
    pub(crate) ignore_cache: bool,
    pub(crate) description: BTreeMap<String, String>,
    pub(crate) export_cache: Option<bool>,
    pub(crate) caps: BTreeSet<String>,
    pub(crate) group: Option<pb::ProgressGroup>,
    pub(crate) resources: Option<LinuxResources>,
}

impl Metadata {
    /// Adds what `other` says; where both speak, `other` wins.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.ignore_cache |= other.ignore_cache;
        self.description.extend(other.description.iter().map(|(k, v)| (k.clone(), v.clone())));
        self.caps.extend(other.caps.iter().cloned());
        if other.export_cache.is_some() {
            self.export_cache = other.export_cache;
        }
        if other.group.is_some() {
            self.group.clone_from(&other.group);
        }
        if other.resources.is_some() {
            self.resources.clone_from(&other.resources);
        }
    }

    pub(crate) fn add_cap(&mut self, cap: &str) {
        if !self.caps.contains(cap) {
            self.caps.insert(cap.to_owned());
        }
    }
}

impl Constraints {
    /// No constraints.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Constrained for Constraints {
    fn constraints_mut(&mut self) -> &mut Constraints {
        self
    }
}

/// Methods of everything that becomes an op.
pub trait Constrained: Sized {
    /// The constraints to change.
    fn constraints_mut(&mut self) -> &mut Constraints;

    /// Replaces all constraints that were set before.
    #[must_use]
    fn with_constraints(mut self, constraints: Constraints) -> Self {
        *self.constraints_mut() = constraints;
        self
    }

    /// The platform that the op is for.
    #[must_use]
    fn platform(mut self, platform: Platform) -> Self {
        self.constraints_mut().platform = Some(platform);
        self
    }

    /// A filter over worker labels that must hold where the op runs.
    #[must_use]
    fn require(mut self, filter: &str) -> Self {
        self.constraints_mut().worker.push(filter.to_owned());
        self
    }

    /// The name under which the op is shown.
    #[must_use]
    fn custom_name(self, name: &str) -> Self {
        self.description(CUSTOM_NAME, name)
    }

    /// A free text about the op.
    #[must_use]
    fn description(mut self, key: &str, value: &str) -> Self {
        self.constraints_mut().metadata.description.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Runs the op even when its result is known.
    #[must_use]
    fn ignore_cache(mut self) -> Self {
        self.constraints_mut().metadata.ignore_cache = true;
        self
    }

    /// Whether the op's result goes into exported caches, whatever the build's configuration says.
    #[must_use]
    fn export_cache(mut self, export: bool) -> Self {
        self.constraints_mut().metadata.export_cache = Some(export);
        self
    }

    /// Shows all ops with this group id as one step. A weak group is hidden until a member that is
    /// not weak has started.
    #[must_use]
    fn progress_group(mut self, id: &str, name: &str, weak: bool) -> Self {
        self.constraints_mut().metadata.group =
            Some(pb::ProgressGroup { id: id.to_owned(), name: name.to_owned(), weak });
        self
    }

    /// Limits the op's process.
    #[must_use]
    fn linux_resources(mut self, resources: LinuxResources) -> Self {
        self.constraints_mut().metadata.resources = Some(resources);
        self
    }

    /// The lines of a source file that the op comes from.
    #[must_use]
    fn location(mut self, map: &Arc<SourceMap>, ranges: impl Into<Vec<Range>>) -> Self {
        let location = Location { map: map.clone(), ranges: ranges.into() };
        self.constraints_mut().locations.push(location);
        self
    }

    /// What tells one client's directory from another's of the same name; random by default.
    #[must_use]
    fn local_unique_id(mut self, id: &str) -> Self {
        self.constraints_mut().unique_id = Some(id.to_owned());
        self
    }
}
