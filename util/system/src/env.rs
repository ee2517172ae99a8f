/// `PATH` of processes in Linux containers that set none.
pub const DEFAULT_PATH_UNIX: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `PATH` of processes in Windows containers that set none.
pub const DEFAULT_PATH_WINDOWS: &str =
    "c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0";

/// The `PATH` for processes on the operating system `os` of a platform.
pub fn default_path_env(os: &str) -> &'static str {
    if os == "windows" { DEFAULT_PATH_WINDOWS } else { DEFAULT_PATH_UNIX }
}

/// Whether this process runs in a user namespace that maps only a part of the users: root is root of that part then, and
/// makes no devices.
pub fn in_user_namespace() -> bool {
    // The first namespace maps every number to itself. Kernels without namespaces do not have the file.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map))
}

fn is_whole(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_users() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("0 1000 1\n1 100000 65536\n"));
    }
}
