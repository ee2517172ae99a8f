/// `PATH` of processes in Linux containers that set none.
pub const DEFAULT_PATH_UNIX: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `PATH` of processes in Windows containers that set none.
pub const DEFAULT_PATH_WINDOWS: &str =
    "c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0";

/// The `PATH` for processes on the operating system `os` of a platform.
pub fn default_path_env(os: &str) -> &'static str {
    if os == "windows" { DEFAULT_PATH_WINDOWS } else { DEFAULT_PATH_UNIX }
}
