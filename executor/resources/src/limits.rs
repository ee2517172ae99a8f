use fs_err as fs;

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
