//! What a container may use of the machine, from the words of the configuration.

use std::os::fd::BorrowedFd;

use buildkit_executor_resources::{
    Access, Cgroup, DeviceKind, DeviceRule, Hierarchies, Limits, OpenCgroup, default_device_rules,
};

use crate::config::{self, Linux, Resources};
use crate::error::{Context, Error};
use crate::rootfs::CgroupView;

/// The control group of a container, removed when dropped unless it is kept.
#[derive(Debug)]
pub(crate) struct Group {
    cgroup: Cgroup,
    opened: OpenCgroup,
    keep: bool,
}

impl Group {
    /// Makes it.
    pub(crate) fn make(hierarchies: &Hierarchies, linux: &Linux) -> Result<Self, Error> {
        let mut rules = linux.resources.devices.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        rules.extend(default_device_rules());
        let cgroup = Cgroup::new(hierarchies, &linux.cgroups_path);
        let opened = cgroup.create(&limits(&linux.resources), &rules)?;
        Ok(Self { cgroup, opened, keep: false })
    }

    /// That of a container which somebody else has made.
    pub(crate) fn of_others(hierarchies: &Hierarchies, linux: &Linux) -> Result<Self, Error> {
        let cgroup = Cgroup::new(hierarchies, &linux.cgroups_path);
        Ok(Self { opened: cgroup.open()?, cgroup, keep: true })
    }

    /// Where a process is born into it.
    pub(crate) fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.opened.unified_fd()
    }

    /// Moves this process, which was born into a part of it, into the rest.
    pub(crate) fn join_self(&self) -> Result<(), Error> {
        self.opened.join_self().context("join control groups")
    }

    /// Leaves it to who called.
    pub(crate) fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.keep {
            self.cgroup.kill();
            // Nothing more can be done about it here.
            let _ = self.cgroup.remove();
        }
    }
}

fn limits(resources: &Resources) -> Limits {
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    Limits {
        memory: memory.limit,
        memory_swap: memory.swap,
        cpu_shares: cpu.shares,
        cpu_quota: cpu.quota,
        cpu_period: cpu.period,
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        pids: resources.pids.map(|pids| pids.limit),
    }
}

fn rule(rule: &config::DeviceRule) -> Result<DeviceRule, Error> {
    let refused = || Error::new(format!("unknown device rule {rule:?}"));
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| refused()),
    };
    Ok(DeviceRule {
        allow: rule.allow,
        kind: match rule.kind.as_deref() {
            None | Some("a" | "") => None,
            Some("c" | "u") => Some(DeviceKind::Char),
            Some("b") => Some(DeviceKind::Block),
            Some(_) => return Err(refused()),
        },
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access: match rule.access.as_deref() {
            None => Access::ALL,
            Some(letters) => Access::parse(letters).ok_or_else(refused)?,
        },
    })
}

/// The groups at `path` as the container sees them; none where there is version 2 only.
pub(crate) fn views(hierarchies: &Hierarchies, path: &str) -> Vec<CgroupView> {
    let old = hierarchies.all.iter().filter(|hierarchy| !hierarchy.unified);
    old.filter_map(|hierarchy| {
        let name = hierarchy.mount_point.file_name()?.to_str()?.to_owned();
        Some(CgroupView { name, directory: hierarchy.mount_point.join(path.trim_start_matches('/')) })
    })
    .collect()
}
