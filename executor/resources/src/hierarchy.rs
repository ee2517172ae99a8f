use std::io;
use std::path::PathBuf;

use fs_err as fs;

/// One hierarchy of control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Whether it is the unified one of version 2.
    pub unified: bool,
    /// Its controllers, and names such as `name=systemd`; empty for version 2.
    pub controllers: Vec<String>,
}

/// The hierarchies of the host as they are mounted for this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// In the order of the mount table.
    pub all: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Reads the mount table of this process.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn detect() -> io::Result<Self> {
        fs::read_to_string("/proc/self/mountinfo").map(|table| Self::parse(&table))
    }

    fn parse(table: &str) -> Self {
        let mut seen = Vec::new();
        let all = table.lines().filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut filesystem = filesystem.split(' ');
            let unified = match filesystem.next()? {
                "cgroup" => false,
                "cgroup2" => true,
                _ => return None,
            };
            // One that is mounted again is still one: a group is to be made in it once.
            let place = mount.split(' ').skip(2).take(2).collect::<Vec<_>>();
            if seen.contains(&place) {
                return None;
            }
            seen.push(place);
            let options = filesystem.nth(1).unwrap_or_default().split(',');
            let flags = ["rw", "ro", "xattr", "clone_children"];
            let controllers = options.filter(|o| !unified && !flags.contains(o)).map(str::to_owned).collect();
            Some(Hierarchy { mount_point: PathBuf::from(mount.split(' ').nth(4)?), unified, controllers })
        });
        Self { all: all.collect() }
    }

    /// The hierarchy of a controller of version 1.
    pub fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.all.iter().find(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller))
    }

    /// The unified hierarchy.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.all.iter().find(|hierarchy| hierarchy.unified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_tables() {
        let hybrid = Hierarchies::parse(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
             33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n\
             34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
             36 30 0:30 / /elsewhere/systemd rw - cgroup cgroup rw,xattr,name=systemd\n",
        );
        assert_eq!(hybrid.all.len(), 3);
        assert_eq!(
            hybrid.of("cpuacct").map(|h| h.mount_point.clone()),
            Some("/sys/fs/cgroup/cpu,cpuacct".into())
        );
        assert!(hybrid.of("memory").is_none());
        assert_eq!(hybrid.unified().map(|h| h.mount_point.clone()), Some("/sys/fs/cgroup/unified".into()));
    }
}
