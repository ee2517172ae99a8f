use std::io;

use fs_err as fs;
use rustix::io::Errno;

use crate::directory::Directory;

/// No container needs more processes at a time.
const MOST: i64 = 32_768;

/// A limit of processes that stops a fork bomb before the host runs out of them: half of what the
/// kernel allows in all, and never more than 32 768.
pub fn default_pids_limit() -> i64 {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse::<i64>().ok()
    };
    let all = ["pid_max", "threads-max"].into_iter().filter_map(read).min().unwrap_or(MOST);
    (all / 2).clamp(1, MOST)
}

/// What the processes of a group may use, in the terms of `linux.resources` of an OCI configuration.
///
/// Nothing is limited by a value that is not there, is 0 or is an empty text, as with runc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; -1 for no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 for no limit. Without a limit when `memory` is -1.
    pub memory_swap: Option<i64>,
    /// Relative weight, from 2 to 262 144.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; negative for no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Processors, such as `0-3,6`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, such as `0-1`.
    pub cpuset_mems: Option<String>,
    /// How many tasks there may be; negative for no limit.
    pub pids: Option<i64>,
}

/// What limits can be about.
pub(crate) const CONTROLLERS: [&str; 4] = ["cpuset", "memory", "cpu", "pids"];

impl Limits {
    /// Whether something is asked of a controller.
    pub(crate) fn concern(&self, controller: &str) -> bool {
        match controller {
            "memory" => self.memory() != 0 || self.memory_swap() != 0,
            "cpu" => self.shares() != 0 || self.quota() != 0 || self.period() != 0,
            "cpuset" => self.cpuset().iter().any(|(_, value)| value.is_some()),
            "pids" => self.pids() != 0,
            _ => false,
        }
    }

    /// Sets those of one controller in a new group of either version.
    pub(crate) fn set(&self, controller: &str, unified: bool, group: &Directory) -> io::Result<()> {
        match (controller, unified) {
            ("memory", false) => self.set_memory(group),
            ("memory", true) => self.set_unified_memory(group),
            ("cpu", false) => self.set_cpu(group),
            ("cpu", true) => self.set_unified_cpu(group),
            ("pids", _) => group.write("pids.max", &or_max(self.pids())),
            _ => self.set_cpuset(group),
        }
    }

    fn memory(&self) -> i64 {
        self.memory.unwrap_or(0)
    }

    fn memory_swap(&self) -> i64 {
        self.memory_swap.unwrap_or(0)
    }

    fn shares(&self) -> u64 {
        self.cpu_shares.unwrap_or(0)
    }

    fn quota(&self) -> i64 {
        self.cpu_quota.unwrap_or(0)
    }

    fn period(&self) -> u64 {
        self.cpu_period.unwrap_or(0)
    }

    fn pids(&self) -> i64 {
        self.pids.unwrap_or(0)
    }

    /// Files of processors and memory nodes with what is asked for.
    pub(crate) fn cpuset(&self) -> [(&'static str, Option<&str>); 2] {
        [("cpuset.cpus", &self.cpuset_cpus), ("cpuset.mems", &self.cpuset_mems)]
            .map(|(file, value)| (file, value.as_deref().filter(|value| !value.is_empty())))
    }

    fn set_cpuset(&self, group: &Directory) -> io::Result<()> {
        let mut asked = self.cpuset().into_iter().filter_map(|(file, value)| Some((file, value?)));
        asked.try_for_each(|(file, value)| group.write(file, value))
    }

    /// The kernel wants the limit of both to be no lower than the one of memory at any time. In a new
    /// group both are at their highest.
    fn set_memory(&self, group: &Directory) -> io::Result<()> {
        const BOTH: &str = "memory.memsw.limit_in_bytes";
        let set = |file: &str, value: i64| match value {
            0 => Ok(()),
            value => group.write(file, &value.to_string()),
        };
        if self.memory() == -1 && self.memory_swap() == 0 {
            // Swap is not necessarily counted.
            match group.try_write(BOTH, "-1") {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(group.unwritten(BOTH, "-1", error)),
            }
        }
        set("memory.limit_in_bytes", self.memory())?;
        set(BOTH, self.memory_swap())
    }

    fn set_unified_memory(&self, group: &Directory) -> io::Result<()> {
        const SWAP: &str = "memory.swap.max";
        if let Some(swap) = self.swap_alone()? {
            let value = if swap < 0 { "max".to_owned() } else { swap.to_string() };
            match group.try_write(SWAP, &value) {
                Ok(()) => {}
                // Where swap is not counted, there is none to limit.
                Err(Errno::NOENT) if swap <= 0 => {}
                Err(error) => return Err(group.unwritten(SWAP, &value, error)),
            }
        }
        match self.memory() {
            0 => Ok(()),
            -1 => group.write("memory.max", "max"),
            memory => group.write("memory.max", &memory.to_string()),
        }
    }

    /// The limit of swap without memory, as version 2 has it; -1 for none.
    fn swap_alone(&self) -> io::Result<Option<i64>> {
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        match (self.memory(), self.memory_swap()) {
            (-1, 0) | (_, -1) => Ok(Some(-1)),
            (_, 0) => Ok(None),
            (0 | -1, _) => refused("unable to set swap limit without memory limit"),
            (memory, _) if memory < 0 => refused("negative memory limit"),
            (memory, both) if both < memory => refused("memory+swap limit should be >= memory limit"),
            (memory, both) => Ok(Some(both - memory)),
        }
    }

    fn set_cpu(&self, group: &Directory) -> io::Result<()> {
        const PERIOD: &str = "cpu.cfs_period_us";
        if self.shares() != 0 {
            group.write("cpu.shares", &self.shares().to_string())?;
            // The kernel takes the next one that it has, without a word.
            let kept = group.read("cpu.shares")?;
            if kept.trim() != self.shares().to_string() {
                let end = if kept.trim().parse().is_ok_and(|kept: u64| kept < self.shares()) {
                    "maximum"
                } else {
                    "minimum"
                };
                let why = format!("the {end} allowed cpu-shares is {}", kept.trim());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        let period = self.period().to_string();
        let mut later = false;
        if self.period() != 0 {
            match group.try_write(PERIOD, &period) {
                Ok(()) => {}
                // Too short for the quota that is still there.
                Err(Errno::INVAL) if self.quota() != 0 => later = true,
                Err(error) => return Err(group.unwritten(PERIOD, &period, error)),
            }
        }
        if self.quota() != 0 {
            group.write("cpu.cfs_quota_us", &self.quota().to_string())?;
        }
        if later { group.write(PERIOD, &period) } else { Ok(()) }
    }

    fn set_unified_cpu(&self, group: &Directory) -> io::Result<()> {
        if self.shares() != 0 {
            group.write("cpu.weight", &weight(self.shares()).to_string())?;
        }
        if self.quota() == 0 && self.period() == 0 {
            return Ok(());
        }
        // The period of the kernel, where none is given.
        let period = if self.period() == 0 { 100_000 } else { self.period() };
        group.write("cpu.max", &format!("{} {period}", or_max(self.quota())))
    }
}

fn or_max(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

/// From 2 to 262 144 is mapped to 1 to 10 000, evenly; the kernel refuses what is beyond.
fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2).saturating_mul(9999) / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_converted_as_runc_does() {
        for (shares, expected) in [(1, 1), (2, 1), (1024, 39), (262_144, 10_000), (262_143, 9_999)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert!(weight(u64::MAX) > 10_000, "left to the kernel to refuse");
    }

    #[test]
    fn swap_of_version_2_does_not_include_memory() {
        let swap = |memory, memory_swap| {
            Limits { memory, memory_swap, ..Limits::default() }.swap_alone().map_err(|e| e.kind())
        };
        assert_eq!(swap(None, None), Ok(None));
        assert_eq!(swap(Some(100), None), Ok(None));
        assert_eq!(swap(Some(-1), None), Ok(Some(-1)));
        assert_eq!(swap(Some(100), Some(-1)), Ok(Some(-1)));
        assert_eq!(swap(Some(100), Some(100)), Ok(Some(0)));
        assert_eq!(swap(Some(100), Some(150)), Ok(Some(50)));
        for (memory, both) in [(None, 5), (Some(-1), 5), (Some(-7), 5), (Some(100), 99)] {
            assert_eq!(swap(memory, Some(both)), Err(io::ErrorKind::InvalidInput));
        }
    }

    #[test]
    fn nothing_is_asked_by_empty_values() {
        let nothing = Limits {
            memory: Some(0),
            memory_swap: Some(0),
            cpu_shares: Some(0),
            cpu_quota: Some(0),
            cpu_period: Some(0),
            cpuset_cpus: Some(String::new()),
            cpuset_mems: Some(String::new()),
            pids: Some(0),
        };
        assert!(CONTROLLERS.iter().all(|controller| !nothing.concern(controller)));
    }
}
