use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::cgroup::Place;
use crate::devices::{DeviceList, ebpf};
use crate::directory::{Directory, named};
use crate::limits::CONTROLLERS;
use crate::{Cgroup, DeviceRule, Limits};

/// How often to begin again when somebody else makes or removes the same groups, and how often to wait
/// for the kernel.
const TRIES: usize = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// A control group that exists, held open for processes to enter.
#[derive(Debug)]
pub struct OpenCgroup {
    groups: Vec<Opened>,
}

#[derive(Debug)]
struct Opened {
    directory: Directory,
    unified: bool,
}

impl Cgroup {
    /// Makes the group in every hierarchy, with the groups above it, and limits it. It is new
    /// afterwards: one that is already there is replaced, unless there is anything in it.
    ///
    /// Device rules are those of the configuration followed by [`default_device_rules`]; what none
    /// of them is about is denied. Without any rule, devices are as in the group above.
    ///
    /// [`default_device_rules`]: crate::default_device_rules
    ///
    /// # Errors
    /// When the name is none, a rule is contradictory, the host lacks a controller that is needed, or
    /// the kernel refuses a value. What was made until then is removed.
    pub fn create(&self, limits: &Limits, devices: &[DeviceRule]) -> io::Result<OpenCgroup> {
        if !self.safe {
            let why = format!("no control group can have the name {:?}", self.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let devices = (!devices.is_empty()).then(|| DeviceList::new(devices)).transpose()?;
        let mut made = Made::default();
        let groups = self.places.iter().map(|place| made.group(place, limits));
        let opened = OpenCgroup { groups: groups.collect::<io::Result<_>>()? };
        if CONTROLLERS.iter().any(|controller| self.of(controller).is_none()) {
            self.unified().map_or(Ok(()), delegate)?;
        }
        for controller in CONTROLLERS {
            if limits.concern(controller) {
                let (unified, group) = self.group_of(&opened, controller)?;
                limits.set(controller, unified, group)?;
            }
        }
        if let Some(list) = &devices {
            match self.group_of(&opened, "devices")? {
                (true, group) => ebpf::restrict(group.as_fd(), list).map_err(|error| {
                    let path = group.path().display();
                    io::Error::new(error.kind(), format!("failed to restrict devices of {path}: {error}"))
                })?,
                (false, group) => restrict(group, list)?,
            }
        }
        made.0.clear();
        Ok(opened)
    }

    /// Opens one that exists in all hierarchies.
    ///
    /// # Errors
    /// `NotFound` when it does not.
    pub fn open(&self) -> io::Result<OpenCgroup> {
        if self.places.is_empty() {
            let why = format!("there is no control group {:?}", self.name);
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        let groups = self.places.iter().map(Opened::new).collect::<io::Result<_>>()?;
        Ok(OpenCgroup { groups })
    }

    /// Where a controller is: in its own hierarchy, else in the unified one (and whether).
    fn group_of<'a>(&self, opened: &'a OpenCgroup, controller: &str) -> io::Result<(bool, &'a Directory)> {
        let mut both = self.places.iter().zip(&opened.groups);
        let own = |(place, _): &(&Place, &Opened)| place.is_of(controller);
        let found = both.clone().find(own).or_else(|| both.find(|(place, _)| place.hierarchy.unified));
        match found {
            Some((place, group)) => Ok((place.hierarchy.unified, &group.directory)),
            None => {
                let why = format!("cannot limit {controller}: this host has no such control groups");
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }
}

impl OpenCgroup {
    /// The directory of the group in the unified hierarchy, for `CLONE_INTO_CGROUP`.
    pub fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.groups.iter().find(|group| group.unified).map(|group| group.directory.as_fd())
    }

    /// Moves a process with all of its threads into the group in the hierarchies of version 1, and in
    /// the unified one if that is wanted.
    ///
    /// The kernel stops all forks on the host for that, which takes about 10 ms when it has not been
    /// done a moment ago. [`OpenCgroup::join_self`] and `CLONE_INTO_CGROUP` take no time.
    ///
    /// # Errors
    /// Of the first hierarchy that refused.
    pub fn join(&self, process: Pid, also_unified: bool) -> io::Result<()> {
        let id = process.as_raw_nonzero().to_string();
        let mut groups = self.groups.iter().filter(|group| also_unified || !group.unified);
        groups.try_for_each(|group| group.enter(&id))
    }

    /// Moves the calling thread into the group in the hierarchies of version 1. To be called by the
    /// only thread of a process: others would stay where they are.
    ///
    /// # Errors
    /// Of the first hierarchy that refused.
    pub fn join_self(&self) -> io::Result<()> {
        let mut groups = self.groups.iter().filter(|group| !group.unified);
        // A thread that moves itself cannot end or fork meanwhile, so that the kernel need not stop
        // the others. It looks at exactly this file and this value.
        groups.try_for_each(|group| group.directory.write("tasks", "0"))
    }
}

impl Opened {
    fn new(place: &Place) -> io::Result<Self> {
        Ok(Self { directory: Directory::open(&place.directory)?, unified: place.hierarchy.unified })
    }

    fn enter(&self, id: &str) -> io::Result<()> {
        const FILE: &str = "cgroup.procs";
        let mut tries = TRIES;
        loop {
            match self.directory.try_write(FILE, id) {
                Ok(()) => return Ok(()),
                // Before Linux 5.16: a process that has just been made and did not run yet.
                Err(Errno::INVAL) if tries > 0 => tries -= 1,
                Err(error) => return Err(self.directory.unwritten(FILE, id, error)),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Directories that are removed again if not all goes well, the last one first.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            // Others may use groups above ours by now.
            let _ = rustix::fs::rmdir(directory);
        }
    }
}

impl Made {
    fn group(&mut self, place: &Place, limits: &Limits) -> io::Result<Opened> {
        let path = &place.directory;
        for _ in 0..TRIES {
            match self.directory(path) {
                Ok(()) => {
                    let group = Opened::new(place)?;
                    if place.is_of("cpuset") {
                        fill(place, &group.directory, limits)?;
                    }
                    return Ok(group);
                }
                Err(Errno::NOENT) => self.above(place)?,
                // Its limits are not ours.
                Err(Errno::EXIST) => match rustix::fs::rmdir(path) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(named("replace control group", path, error)),
                },
                Err(error) => return Err(named("make control group", path, error)),
            }
        }
        Err(named("make control group", path, Errno::AGAIN))
    }

    /// The groups above, as far as they are missing.
    fn above(&mut self, place: &Place) -> io::Result<()> {
        let root = &place.hierarchy.mount_point;
        let mut missing: Vec<&Path> =
            place.directory.ancestors().skip(1).take_while(|path| path != root).collect();
        missing.reverse();
        for (depth, path) in missing.into_iter().enumerate() {
            match self.directory(path) {
                Ok(()) | Err(Errno::EXIST) => {}
                // Somebody has removed the one above meanwhile. The first one is below the root.
                Err(Errno::NOENT) if depth > 0 => return Ok(()),
                Err(error) => return Err(named("make control group", path, error)),
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> Result<(), Errno> {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?;
        self.0.push(path.to_owned());
        Ok(())
    }
}

/// A new group of version 1 has neither processors nor memory nodes, and no process can enter until it
/// has: it gets those of the group above, except where others are asked for, which are set later.
fn fill(place: &Place, group: &Directory, limits: &Limits) -> io::Result<()> {
    let Some(above) = place.directory.parent() else { return Ok(()) };
    let above = Directory::open(above)?;
    for (file, asked) in limits.cpuset() {
        // The group above needs some in any case.
        let value = inherited(&above, file, &place.hierarchy.mount_point)?;
        if asked.is_none() {
            group.write(file, &value)?;
        }
    }
    Ok(())
}

/// What a group of processors has, after giving it some if it is new.
fn inherited(group: &Directory, file: &str, root: &Path) -> io::Result<String> {
    let value = group.read(file)?;
    if !value.trim().is_empty() || group.path() == root {
        return Ok(value);
    }
    let Some(above) = group.path().parent() else { return Ok(value) };
    let value = inherited(&Directory::open(above)?, file, root)?;
    group.write(file, &value)?;
    Ok(value)
}

/// Has the groups above one of version 2 hand on all controllers that there are, for limits and for
/// what they count. Those that cannot be handed on are missed only where a limit needs them.
fn delegate(place: &Place) -> io::Result<()> {
    let root = &place.hierarchy.mount_point;
    let available = Directory::open(root)?.read("cgroup.controllers")?;
    let missing = |group: &Directory| -> io::Result<Vec<String>> {
        let enabled = group.read("cgroup.subtree_control")?;
        let missing =
            available.split_whitespace().filter(|one| !enabled.split_whitespace().any(|e| e == *one));
        Ok(missing.map(|controller| format!("+{controller}")).collect())
    };
    let Some(parent) = place.directory.parent() else { return Ok(()) };
    // Nothing is handed on there that the groups above do not hand on.
    if missing(&Directory::open(parent)?)?.is_empty() {
        return Ok(());
    }
    let mut above: Vec<&Path> = parent.ancestors().take_while(|path| path.starts_with(root)).collect();
    above.reverse();
    for path in above {
        let group = Directory::open(path)?;
        let missing = missing(&group)?;
        if !missing.is_empty() && group.try_write("cgroup.subtree_control", &missing.join(" ")).is_err() {
            for one in missing {
                let _ = group.try_write("cgroup.subtree_control", &one);
            }
        }
    }
    Ok(())
}

/// Restricts a group of version 1: back to nothing or everything, then the exceptions.
fn restrict(group: &Directory, list: &DeviceList) -> io::Result<()> {
    let (default, exceptions) = match list.allowed_by_default {
        true => ("devices.allow", "devices.deny"),
        false => ("devices.deny", "devices.allow"),
    };
    group.write(default, "a")?;
    group.write_all(exceptions, list.exceptions.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;
    use crate::Hierarchy;

    /// What would be written to version 2, where there may be none: plain files take anything.
    #[test]
    fn files_of_version_2() {
        let root = tempfile::tempdir().expect("directory");
        let directory = root.path().join("above/one");
        fs::create_dir_all(&directory).expect("directory");
        for (file, text) in
            [("cgroup.controllers", "cpuset cpu memory pids\n"), ("cgroup.subtree_control", "cpu\n")]
        {
            fs::write(root.path().join(file), text).expect("file");
        }
        let above = directory.parent().expect("directory");
        fs::write(above.join("cgroup.subtree_control"), "").expect("file");
        let hierarchy =
            Hierarchy { mount_point: root.path().to_owned(), unified: true, controllers: Vec::new() };
        let place = Place { hierarchy, directory: directory.clone() };
        delegate(&place).expect("controllers");
        let handed_on =
            |group: &Path| fs::read_to_string(group.join("cgroup.subtree_control")).expect("file");
        assert_eq!(handed_on(root.path()), "+cpuset +memory +pids");
        assert_eq!(handed_on(above), "+cpuset +cpu +memory +pids");

        let files = [
            "memory.max",
            "memory.swap.max",
            "cpu.weight",
            "cpu.max",
            "cpuset.cpus",
            "cpuset.mems",
            "pids.max",
        ];
        let written = |limits: &Limits| {
            files.iter().for_each(|file| fs::write(directory.join(file), "").expect("file"));
            let group = Directory::open(&directory).expect("group");
            for controller in CONTROLLERS.iter().filter(|controller| limits.concern(controller)) {
                limits.set(controller, true, &group).expect("limit");
            }
            files.map(|file| fs::read_to_string(directory.join(file)).expect("file"))
        };
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(100),
            cpu_shares: Some(1024),
            cpu_quota: Some(5000),
            cpu_period: None,
            cpuset_cpus: Some("0-3".to_owned()),
            cpuset_mems: Some("1".to_owned()),
            pids: Some(7),
        };
        assert_eq!(written(&limits), ["100", "0", "39", "5000 100000", "0-3", "1", "7"]);
        let limits = Limits {
            memory: Some(-1),
            cpu_quota: Some(-1),
            cpu_period: Some(10_000),
            pids: Some(-1),
            ..Limits::default()
        };
        assert_eq!(written(&limits), ["max", "max", "", "max 10000", "", "", "max"]);
        assert_eq!(written(&Limits::default()), [""; 7]);

        // Swap that is not counted.
        fs::remove_file(directory.join("memory.swap.max")).expect("file");
        let group = Directory::open(&directory).expect("group");
        let set = |memory, memory_swap| {
            let limits = Limits { memory: Some(memory), memory_swap: Some(memory_swap), ..Limits::default() };
            limits.set("memory", true, &group).map_err(|error| error.kind())
        };
        assert_eq!(set(100, 100), Ok(()));
        assert_eq!(set(100, -1), Ok(()));
        assert_eq!(set(100, 150), Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn files_of_version_1_without_swap() {
        let directory = tempfile::tempdir().expect("directory");
        fs::write(directory.path().join("memory.limit_in_bytes"), "").expect("file");
        let group = Directory::open(directory.path()).expect("group");
        let set = |memory, memory_swap| {
            Limits { memory, memory_swap, ..Limits::default() }
                .set("memory", false, &group)
                .map_err(|error| error.kind())
        };
        assert_eq!(set(Some(-1), None), Ok(()));
        assert_eq!(set(Some(100), None), Ok(()));
        assert_eq!(set(Some(100), Some(200)), Err(io::ErrorKind::NotFound));
        let error = group.write("memory.limit", "x").expect_err("no such file");
        assert!(error.to_string().contains("memory.limit"), "{error}");
    }
}
