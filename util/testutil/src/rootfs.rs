//! A root file system without a registry.

use std::path::Path;

use fs_err::os::unix::fs::symlink;

/// Commands that builds in tests use.
const APPLETS: &[&str] = &[
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "nproc",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "test",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "wc",
    "which",
    "whoami",
    "yes",
];

/// Fills `dir` with a root file system made of the machine's static busybox.
///
/// # Panics
/// When busybox is not installed, or `dir` cannot be written.
pub fn busybox_rootfs(dir: &Path) {
    for sub in ["bin", "etc", "tmp", "root"] {
        fs_err::create_dir_all(dir.join(sub)).expect("directory of the root file system");
    }
    let places = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"];
    let busybox = places.iter().find(|place| Path::new(place).exists());
    let busybox = busybox.expect("busybox is missing: `hack/setup.sh` installs it");
    fs_err::copy(busybox, dir.join("bin/busybox")).expect("copy of busybox");
    for name in APPLETS {
        symlink("busybox", dir.join("bin").join(name)).expect("link to busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n";
    fs_err::write(dir.join("etc/passwd"), passwd).expect("list of users");
    let group = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n";
    fs_err::write(dir.join("etc/group"), group).expect("list of groups");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Run;

    #[test]
    fn its_shell_runs_alone() {
        let dir = tempfile::tempdir().unwrap();
        busybox_rootfs(dir.path());
        let output =
            Run::new("chroot").arg(dir.path()).args(["/bin/sh", "-c", "id -G user; ls /"]).run().assert_ok();
        assert_eq!(output.stdout, "1000 2000\nbin\netc\nroot\ntmp\n");
    }
}
