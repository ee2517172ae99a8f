//! What a daemon holds of the machine: mounts, processes, cgroups, temporary files, descriptors.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// How many descriptors more than before are no leak: connections that are being closed, log files.
const SLACK: usize = 5;

/// A count of what belongs to one daemon at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Mount points below the daemon's directory, in the mount namespace of the test.
    pub mounts: BTreeSet<String>,
    /// Processes below the daemon and in its cgroups, with their command lines; the daemon itself is not one.
    pub processes: BTreeMap<u32, String>,
    /// Cgroups below the daemon's, of all hierarchies.
    pub cgroups: BTreeSet<String>,
    /// Entries of the daemon's directory for temporary files.
    pub temporary: BTreeSet<String>,
    /// Open descriptors of the daemon, by what they are.
    pub descriptors: BTreeMap<String, usize>,
}

impl Census {
    /// Counts what belongs to the daemon `pid` that lives in `dir` and puts its containers below `cgroup`.
    pub(crate) fn take(pid: Option<u32>, dir: &Path, cgroup: &str) -> Self {
        Self {
            mounts: mounts_below(dir).into_iter().collect(),
            processes: processes(pid, cgroup),
            cgroups: cgroups(cgroup).into_iter().collect(),
            temporary: entries(&dir.join("tmp")).into_iter().collect(),
            descriptors: pid.map(descriptors).unwrap_or_default(),
        }
    }

    /// What is here and was not in `before`, a line each.
    pub fn since(&self, before: &Self) -> Vec<String> {
        let mut new = Vec::new();
        new.extend(self.mounts.difference(&before.mounts).map(|mount| format!("mount {mount}")));
        new.extend(self.cgroups.difference(&before.cgroups).map(|cgroup| format!("cgroup {cgroup}")));
        new.extend(self.temporary.difference(&before.temporary).map(|entry| format!("temporary {entry}")));
        let processes = self.processes.iter().filter(|(pid, _)| !before.processes.contains_key(pid));
        new.extend(processes.map(|(pid, command)| format!("process {pid} {command}")));
        let count = |census: &Self| census.descriptors.values().sum::<usize>();
        if count(self) > count(before) + SLACK {
            for (kind, now) in &self.descriptors {
                let was = before.descriptors.get(kind).copied().unwrap_or_default();
                if *now > was {
                    new.push(format!("descriptors {kind}: {was} before, {now} now"));
                }
            }
        }
        new
    }
}

/// Mount points below a directory, deepest last.
pub(crate) fn mounts_below(dir: &Path) -> Vec<String> {
    let info = fs_err::read_to_string("/proc/self/mountinfo").expect("list of mounts");
    let mut mounts: Vec<String> = info
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // As the kernel writes it: blanks are octal.
        .map(|point| point.replace("\\040", " "))
        .filter(|point| Path::new(point).starts_with(dir))
        .collect();
    mounts.sort();
    mounts
}

/// Descendants of a process, and all processes of a cgroup.
pub(crate) fn processes(daemon: Option<u32>, cgroup: &str) -> BTreeMap<u32, String> {
    let all: Vec<u32> = entries(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()).collect();
    let parents: BTreeMap<u32, u32> = all.iter().filter_map(|pid| Some((*pid, parent(*pid)?))).collect();
    let below = |pid: u32| {
        let mut here = pid;
        while let Some(up) = parents.get(&here).filter(|up| **up != here) {
            if Some(*up) == daemon {
                return true;
            }
            here = *up;
        }
        false
    };
    let inside = |pid: u32| {
        let text = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().any(|line| line.contains(cgroup))
    };
    parents
        .keys()
        .filter(|pid| Some(**pid) != daemon && (below(**pid) || inside(**pid)))
        .map(|pid| (*pid, command_line(*pid)))
        .collect()
}

/// The parent of a process that lives; one that has ended and waits to be read is not there any more.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.next()?.parse().ok()
}

fn command_line(pid: u32) -> String {
    let bytes = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// Cgroups of containers below the cgroup of this name in every hierarchy, deepest last.
pub(crate) fn cgroups(cgroup: &str) -> Vec<String> {
    let top = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    let mut stack = vec![top.to_owned()];
    while let Some(dir) = stack.pop() {
        for name in entries(&dir) {
            let path = dir.join(&name);
            // Links between controllers of one hierarchy are not followed.
            if !fs_err::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            // The group of all containers stays as long as the daemon.
            if dir.to_string_lossy().contains(cgroup) && name != "buildkit" {
                found.push(path.to_string_lossy().into_owned());
            }
            stack.push(path);
        }
    }
    found.sort();
    found
}

fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let dir = format!("/proc/{pid}/fd");
    let mut kinds = BTreeMap::new();
    for name in entries(Path::new(&dir)) {
        let Ok(target) = fs_err::read_link(format!("{dir}/{name}")) else { continue };
        let target = target.to_string_lossy();
        // `socket:[123]` and the like are one kind each.
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Names in a directory; none when it is not there.
fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Run, wait_for};

    #[test]
    fn differences_are_named() {
        let before = Census { descriptors: [("socket".to_owned(), 3)].into(), ..Census::default() };
        let mut now = before.clone();
        assert_eq!(now.since(&before), [""; 0]);
        now.mounts.insert("/m".into());
        now.processes.insert(7, "sh".into());
        now.descriptors.insert("socket".into(), 3 + SLACK);
        assert_eq!(now.since(&before), ["mount /m", "process 7 sh"]);
        now.descriptors.insert("/db".into(), 1);
        assert!(now.since(&before).contains(&"descriptors /db: 0 before, 1 now".to_owned()));
    }

    #[test]
    fn grandchildren_are_found_and_their_end_is_seen() {
        let running = Run::new("sh").args(["-c", "sleep 1000 & echo up; wait"]).start();
        let id = running.id();
        let below = || processes(Some(id), "no such cgroup");
        let found = wait_for("the grandchild", std::time::Duration::from_secs(30), || {
            let found = below();
            found.values().any(|command| command == "sleep 1000").then_some(found)
        });
        for pid in found.keys() {
            let pid = rustix::process::Pid::from_raw(*pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        assert!(running.wait().status.code().is_some());
        assert!(below().is_empty());
    }
}
