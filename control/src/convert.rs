//! Between wire messages and the types of the daemon.

use std::time::Duration;

use buildkit_api_services_control as api;
use buildkit_api_types as types;
use buildkit_cache::{GcPolicy, UsageRecord};
use buildkit_worker::WorkerInfo;
use prost_types::Timestamp;

/// A duration in nanoseconds; negative ones are none.
pub(crate) fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// A record of disk usage.
pub(crate) fn usage(record: UsageRecord) -> api::UsageRecord {
    api::UsageRecord {
        id: record.id.to_string(),
        mutable: record.mutable,
        in_use: record.in_use,
        size: record.size,
        created_at: Some(Timestamp::from(record.created_at)),
        last_used_at: record.last_used_at.map(Timestamp::from),
        usage_count: i64::try_from(record.usage_count).unwrap_or(i64::MAX),
        description: record.description,
        record_type: record.record_type.to_string(),
        shared: record.shared,
        parents: record.parents.iter().map(ToString::to_string).collect(),
        ..api::UsageRecord::default()
    }
}

/// What people may know of a worker.
pub(crate) fn worker(info: &WorkerInfo) -> types::WorkerRecord {
    types::WorkerRecord {
        id: info.id.clone(),
        labels: info.labels.clone(),
        platforms: info.platforms.clone(),
        gc_policy: info.gc_policy.iter().map(gc_policy).collect(),
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

fn gc_policy(policy: &GcPolicy) -> types::GcPolicy {
    types::GcPolicy {
        all: policy.all,
        keep_duration: i64::try_from(policy.keep_duration.as_nanos()).unwrap_or(i64::MAX),
        reserved_space: policy.reserved_space,
        filters: policy.filters.clone(),
        max_used_space: policy.max_used_space,
        min_free_space: policy.min_free_space,
    }
}

/// What this daemon is.
pub(crate) fn version() -> types::BuildkitVersion {
    types::BuildkitVersion {
        package: buildkit_version::PACKAGE.to_owned(),
        version: buildkit_version::VERSION.to_owned(),
        revision: buildkit_version::REVISION.to_owned(),
        dockerfile_version: String::new(),
    }
}
