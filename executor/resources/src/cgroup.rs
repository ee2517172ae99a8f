use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Hierarchies, Hierarchy};

/// How often a state of the kernel is looked at before it is given up, with a pause in between.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(2);
/// The first of them while a process that has ended is on its way out: that is mostly soon.
const SHORT_PAUSE: Duration = Duration::from_micros(50);

/// The control group of one container, in every hierarchy where it exists.
///
/// All calls are short and synchronous; they wait for the kernel for 40 ms at most.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// As it was given.
    pub(crate) name: String,
    /// One per hierarchy; none when the name means nothing below their roots.
    pub(crate) places: Vec<Place>,
    /// Whether the name means a group below the roots.
    pub(crate) safe: bool,
}

/// The group in one hierarchy, where it may exist.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) directory: PathBuf,
}

impl Cgroup {
    /// The group `path`, absolute within each hierarchy, as in an OCI configuration. It need not
    /// exist yet. Groups in the words of systemd (`slice:prefix:name`) are not found.
    pub fn new(hierarchies: &Hierarchies, path: &str) -> Self {
        // The root of a hierarchy holds the host. What is left are proper names.
        let components = Path::new(path).components().filter(|component| *component != Component::RootDir);
        let relative: Option<PathBuf> = components
            .map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        let relative = relative.filter(|relative| relative.as_os_str() != OsStr::new(""));
        let place = |relative: &PathBuf| {
            let all = hierarchies.all.iter().cloned();
            all.map(|hierarchy| Place { directory: hierarchy.mount_point.join(relative), hierarchy })
                .collect()
        };
        Self {
            name: path.to_owned(),
            places: relative.as_ref().map(place).unwrap_or_default(),
            safe: relative.is_some(),
        }
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|place| place.directory.as_path())
    }

    /// Where a controller of version 1 has it.
    pub(crate) fn of(&self, controller: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.is_of(controller))
    }

    pub(crate) fn unified(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.hierarchy.unified)
    }

    /// Ids of the processes in it and in groups below it.
    pub fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for directory in self.directories() {
            collect(directory, &mut found);
        }
        found.sort_unstable_by_key(|process: &Pid| process.as_raw_nonzero());
        found.dedup();
        found
    }

    /// Sends SIGKILL to all processes, such that none escapes by forking meanwhile: with one write
    /// where the kernel can, else with the group frozen. Returns whether there was any.
    pub fn kill(&self) -> bool {
        let processes = self.processes();
        if processes.is_empty() {
            return false;
        }
        let at_once = |place: &Place| fs::write(place.directory.join("cgroup.kill"), "1").is_ok();
        if self.of("memory").is_none() && self.unified().is_some_and(at_once) {
            return true;
        }
        let frozen = self.freeze();
        // Ids are read while nothing can end or start: none of them can mean another process.
        for process in self.processes() {
            // Those that have ended meanwhile are what we want.
            let _ = kill_process(process, Signal::KILL);
        }
        if frozen {
            self.thaw();
        }
        true
    }

    /// Stops all processes; waits a moment until they have. Processes in the middle of uninterruptible
    /// work stop later.
    fn freeze(&self) -> bool {
        let Some(place) = self.of("freezer").filter(|place| place.directory.exists()) else {
            return false;
        };
        let state = place.directory.join("freezer.state");
        for _ in 0..TRIES {
            if fs::write(&state, "FROZEN").is_err() {
                return false;
            }
            if fs::read_to_string(&state).is_ok_and(|text| text.trim() == "FROZEN") {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }

    /// Lets stopped processes go on, also those that somebody else has stopped.
    fn thaw(&self) {
        if let Some(place) = self.of("freezer") {
            let _ = fs::write(place.directory.join("freezer.state"), "THAWED");
        }
        if let Some(place) = self.unified() {
            let _ = fs::write(place.directory.join("cgroup.freeze"), "0");
        }
    }

    /// How many processes the kernel has ended because the group ran out of memory.
    pub fn oom_kills(&self) -> u64 {
        let old = self.of("memory").into_iter().map(|place| place.directory.join("memory.oom_control"));
        let new = self.unified().into_iter().map(|place| place.directory.join("memory.events"));
        old.chain(new).filter_map(|path| fs::read_to_string(path).ok()).map(|text| oom_kills_in(&text)).sum()
    }

    /// Removes it with the groups below it. Fails while there are processes.
    ///
    /// # Errors
    /// Of the first hierarchy where it failed; the others are tried all the same.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for directory in self.directories() {
            result = result.and(remove_tree(directory));
        }
        result
    }

    /// Removes it if there is nothing in it, no processes and no groups. Returns whether it is gone; if
    /// not, part of it may be, and what is left is to be killed and removed.
    ///
    /// This is the fast way for a container that has ended: it does not look for processes, which the
    /// kernel does as well, and better. What it has counted is lost.
    pub fn remove_if_empty(&self) -> bool {
        // It goes on only while hierarchies have nothing of it: a group without processes is none that
        // they could be frozen or killed by.
        let gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        self.directories().all(|directory| std::fs::remove_dir(directory).map_or_else(gone, |()| true))
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.directories().any(|directory| directory.exists())
    }
}

impl Place {
    /// Whether a controller of version 1 is here.
    pub(crate) fn is_of(&self, controller: &str) -> bool {
        self.hierarchy.controllers.iter().any(|c| c == controller)
    }
}

fn oom_kills_in(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Groups below.
fn children(directory: &Path) -> Vec<PathBuf> {
    // A directory counts itself, its name and each directory in it: usually there is none, and its
    // dozens of files need not be listed. Were the count not kept, it would be 1.
    if fs::metadata(directory).is_ok_and(|metadata| metadata.nlink() == 2) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

fn collect(directory: &Path, found: &mut Vec<Pid>) {
    let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) else { return };
    // 0 is a process of another pid namespace, out of reach.
    found.extend(text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw));
    for child in children(directory) {
        collect(&child, found);
    }
}

/// Most groups are empty and go at the first try.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let mut tries = TRIES;
    let mut pause = SHORT_PAUSE;
    loop {
        let error = match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        let below = children(directory);
        for child in &below {
            remove_tree(child)?;
        }
        tries -= 1;
        if tries == 0 {
            return Err(error);
        }
        // Processes that have ended hold their group until they are reaped.
        if below.is_empty() {
            std::thread::sleep(pause);
            pause = PAUSE.min(pause * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!(oom_kills_in("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(oom_kills_in("low 0\noom 5\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(oom_kills_in(""), 0);
    }

    #[test]
    fn the_root_of_a_hierarchy_is_never_meant() {
        let hierarchies = Hierarchies::detect().expect("mount table");
        assert!(!hierarchies.all.is_empty(), "this test needs cgroups");
        for path in ["", "/", "//", ".", "/.", "./.", "..", "/../x", "a/../..", "a/.."] {
            let group = Cgroup::new(&hierarchies, path);
            assert!(group.places.is_empty() && !group.kill(), "{path}");
            let made = group.create(&crate::Limits::default(), &[]);
            assert_eq!(made.map(|_| ()).map_err(|e| e.kind()), Err(io::ErrorKind::InvalidInput), "{path}");
        }
    }

    #[test]
    fn b_23_stopped_and_stubborn_processes_are_killed() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let hierarchies = Hierarchies::detect().expect("mount table");
        let group = Cgroup::new(&hierarchies, &format!("/buildkit-test-{}", std::process::id()));
        for directory in group.directories().filter(|d| !d.to_string_lossy().contains("cpuset")) {
            fs::create_dir_all(directory.join("below")).expect("group");
        }
        assert!(!group.kill());
        let script = "read go; trap '' TERM INT; (while :; do sleep 1; done) & kill -STOP $$; wait";
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("spawn");
        for directory in group.directories().filter(|d| d.exists()) {
            fs::write(directory.join("below/cgroup.procs"), child.id().to_string()).expect("join");
        }
        drop(child.stdin.take());
        while group.processes().len() < 3 {
            std::thread::sleep(PAUSE);
        }
        if let Some(freezer) = group.of("freezer") {
            fs::write(freezer.directory.join("freezer.state"), "FROZEN").expect("freeze");
        }
        assert!(group.kill());
        let status = child.wait().expect("wait");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        while !group.processes().is_empty() {
            std::thread::sleep(PAUSE);
        }
        group.remove().expect("remove");
        assert!(!group.exists());
    }
}
