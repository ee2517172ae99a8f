use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::Hierarchies;

/// How often a state of the kernel is looked at before it is given up, with a pause in between.
const TRIES: usize = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// The control group of one container, in every hierarchy where it exists.
///
/// All calls are short and synchronous; they wait for the kernel for 40 ms at most.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// Directories that may exist.
    directories: Vec<PathBuf>,
    memory: Option<PathBuf>,
    freezer: Option<PathBuf>,
    unified: Option<PathBuf>,
}

impl Cgroup {
    /// The group `path`, absolute within each hierarchy, as in an OCI configuration. It need not
    /// exist yet. Groups in the words of systemd (`slice:prefix:name`) are not found.
    pub fn new(hierarchies: &Hierarchies, path: &str) -> Self {
        let relative = path.trim_start_matches('/');
        let place = |hierarchy: &crate::Hierarchy| hierarchy.mount_point.join(relative);
        // The root of a hierarchy holds the host.
        let safe = !relative.is_empty() && !Path::new(relative).components().any(|c| c.as_os_str() == "..");
        let of = |controller: &str| hierarchies.of(controller).filter(|_| safe).map(place);
        Self {
            directories: hierarchies.all.iter().filter(|_| safe).map(place).collect(),
            memory: of("memory"),
            freezer: of("freezer"),
            unified: hierarchies.unified().filter(|_| safe).map(place),
        }
    }

    /// Ids of the processes in it and in groups below it.
    pub fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for directory in &self.directories {
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
        let at_once = |directory: &PathBuf| fs::write(directory.join("cgroup.kill"), "1").is_ok();
        if self.memory.is_none() && self.unified.as_ref().is_some_and(at_once) {
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
        let Some(directory) = self.freezer.as_ref().filter(|directory| directory.exists()) else {
            return false;
        };
        let state = directory.join("freezer.state");
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
        if let Some(directory) = &self.freezer {
            let _ = fs::write(directory.join("freezer.state"), "THAWED");
        }
        if let Some(directory) = &self.unified {
            let _ = fs::write(directory.join("cgroup.freeze"), "0");
        }
    }

    /// How many processes the kernel has ended because the group ran out of memory.
    pub fn oom_kills(&self) -> u64 {
        let old = self.memory.iter().map(|directory| directory.join("memory.oom_control"));
        let new = self.unified.iter().map(|directory| directory.join("memory.events"));
        old.chain(new).filter_map(|path| fs::read_to_string(path).ok()).map(|text| oom_kills_in(&text)).sum()
    }

    /// Removes it with the groups below it. Fails while there are processes.
    ///
    /// # Errors
    /// Of the first hierarchy where it failed; the others are tried all the same.
    pub fn remove(&self) -> io::Result<()> {
        let mut result = Ok(());
        for directory in &self.directories {
            result = result.and(remove_tree(directory));
        }
        result
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.directories.iter().any(|directory| directory.exists())
    }
}

fn oom_kills_in(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn children(directory: &Path) -> Vec<PathBuf> {
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

fn remove_tree(directory: &Path) -> io::Result<()> {
    let mut tries = TRIES;
    loop {
        let error = match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        for child in children(directory) {
            remove_tree(&child)?;
        }
        // Processes that have ended hold their group until they are reaped.
        tries -= 1;
        if tries == 0 {
            return Err(error);
        }
        std::thread::sleep(PAUSE);
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
        for path in ["", "/", "/../x", "a/../.."] {
            let group = Cgroup::new(&hierarchies, path);
            assert!(group.directories.is_empty() && !group.kill(), "{path}");
        }
    }

    #[test]
    fn b_23_stopped_and_stubborn_processes_are_killed() {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let hierarchies = Hierarchies::detect().expect("mount table");
        let group = Cgroup::new(&hierarchies, &format!("/buildkit-test-{}", std::process::id()));
        for directory in group.directories.iter().filter(|d| !d.to_string_lossy().contains("cpuset")) {
            fs::create_dir_all(directory.join("below")).expect("group");
        }
        assert!(!group.kill());
        let script = "read go; trap '' TERM INT; (while :; do sleep 1; done) & kill -STOP $$; wait";
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("spawn");
        for directory in group.directories.iter().filter(|d| d.exists()) {
            fs::write(directory.join("below/cgroup.procs"), child.id().to_string()).expect("join");
        }
        drop(child.stdin.take());
        while group.processes().len() < 3 {
            std::thread::sleep(PAUSE);
        }
        if let Some(freezer) = &group.freezer {
            fs::write(freezer.join("freezer.state"), "FROZEN").expect("freeze");
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
