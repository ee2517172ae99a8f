//! Code of snapshots runs in containers only.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use buildkit_client_llb::{FileActions, Owner, copy, local, mkfile, scratch};
use buildkit_util_testutil::Run;
use rustix::fs::{Mode, chmod};

use crate::sandbox::{Sandbox, to_directory};

/// Programs that other daemons ran, by name, while they copied or unpacked.
const PROGRAMS: [&str; 9] = ["unpigz", "pigz", "gzip", "tar", "xz", "zstd", "git", "runc", "getent"];
/// Libraries that C libraries load when users are looked up or texts are converted.
const LIBRARIES: [&str; 5] =
    ["libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2", "gconv/UTF-8.so", "libc.so.6"];

/// A root file system whose programs leave a file at `canary` on the machine if anyone but a container runs them.
fn hostile_root(dir: &Path, canary: &Path) {
    for sub in ["usr/bin", "bin", "sbin", "lib", "lib64", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
    {
        fs_err::create_dir_all(dir.join(sub).join("gconv")).unwrap();
    }
    let script = format!("#!/bin/sh\ntouch {}\n", canary.display());
    for name in PROGRAMS {
        for sub in ["usr/bin", "bin", "sbin"] {
            let path = dir.join(sub).join(name);
            fs_err::write(&path, &script).unwrap();
            chmod(&path, Mode::from_raw_mode(0o755)).unwrap();
        }
    }
    // A real library, so that it would be mapped.
    let real = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"];
    let real = real.iter().find(|path| Path::new(path).exists()).expect("a C library");
    for name in LIBRARIES {
        for sub in ["lib", "lib64", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"] {
            fs_err::copy(real, dir.join(sub).join(name)).unwrap();
        }
    }
    fs_err::create_dir_all(dir.join("etc")).unwrap();
    fs_err::write(dir.join("etc/passwd"), "evil:x:7:7::/:/bin/tar\n").unwrap();
    fs_err::write(dir.join("etc/group"), "evil:x:7:\n").unwrap();
    fs_err::write(dir.join("etc/nsswitch.conf"), "passwd: files dns compat\ngroup: files compat\n").unwrap();
    fs_err::write(dir.join("etc/ld.so.preload"), "/lib/libc.so.6\n").unwrap();
    for (name, to) in [("self", "/proc/self/root"), ("cwd", "/proc/self/cwd"), ("exe", "/proc/self/exe")] {
        fs_err::os::unix::fs::symlink(to, dir.join(name)).unwrap();
    }
}

/// What the daemon maps as code and what its children run, of files below `dir`.
fn code_below(daemon: u32, dir: &Path) -> BTreeSet<String> {
    let dir = dir.to_string_lossy().into_owned();
    let mut found = BTreeSet::new();
    let maps = fs_err::read_to_string(format!("/proc/{daemon}/maps")).unwrap_or_default();
    let is_code = |line: &&str| line.split(' ').nth(1).is_some_and(|mode| mode.contains('x'));
    found.extend(maps.lines().filter(is_code).filter(|line| line.contains(&dir)).map(str::to_owned));
    for task in fs_err::read_dir(format!("/proc/{daemon}/task")).into_iter().flatten().flatten() {
        let children = fs_err::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            if let Ok(exe) = fs_err::read_link(format!("/proc/{child}/exe"))
                && exe.to_string_lossy().contains(&dir)
            {
                found.insert(format!("{child} runs {}", exe.display()));
            }
        }
    }
    found
}

#[test]
fn a2_29_code_of_snapshots_is_neither_run_nor_mapped() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let canary = sandbox.path("canary");
    let hostile = sandbox.path("hostile");
    hostile_root(&hostile, &canary);
    // It could be seen.
    Run::new(hostile.join("bin/unpigz")).run().assert_ok();
    fs_err::remove_file(&canary).unwrap();
    let packed = sandbox.path("packed");
    fs_err::create_dir(&packed).unwrap();
    for (flag, name) in [("-czf", "a.tar.gz"), ("-cf", "b.tar")] {
        Run::new("tar").arg(flag).arg(packed.join(name)).arg("-C").arg(&hostile).arg("etc").run().assert_ok();
    }

    let (daemon, root) = (sandbox.daemon.id(), sandbox.daemon.root());
    /// Ends the watch, whatever comes between.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let end = Done(&done);
        let watch = scope.spawn(|| {
            let mut found = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                found.extend(code_below(daemon, &root));
            }
            found
        });
        let files = local("hostile").state();
        let copied = scratch().file(FileActions::from(copy(&files, "/", "/").contents_only()));
        let archives = local("packed").state();
        // Users are looked up and archives are unpacked.
        let changed = copied.file(
            FileActions::from(mkfile("/owned", 0o644, "x").owner(Owner::parse("evil:evil")))
                .then(copy(&archives, "/a.tar.gz", "/a/").unpack().create_dest())
                .then(copy(&archives, "/b.tar", "/b/").unpack().create_dest()),
        );
        let build = || {
            sandbox
                .build(&changed)
                .arg("--local")
                .arg(format!("hostile={}", hostile.display()))
                .arg("--local")
                .arg(format!("packed={}", packed.display()))
        };
        let out = sandbox.path("out");
        build().args(to_directory(&out)).run().assert_ok();
        build()
            .arg("--output")
            .arg(format!("type=tar,dest={}", sandbox.path("out.tar").display()))
            .run()
            .assert_ok();
        for unpacked in ["a/etc/passwd", "b/etc/passwd"] {
            assert!(out.join(unpacked).is_file(), "{unpacked}");
        }
        // Links of the kind that lead to the machine lead nowhere.
        for link in ["self", "cwd"] {
            let led = copied.file(FileActions::from(
                copy(&copied, &format!("/{link}/etc/hostname"), "/c").follow_symlinks(),
            ));
            let arg = format!("hostile={}", hostile.display());
            sandbox.build(&led).arg("--local").arg(arg).run().assert_fails();
        }
        let listed = Run::new("tar").args(["--numeric-owner", "-tvf"]).arg(sandbox.path("out.tar")).run();
        let is_owned = |line: &str| line.contains(" 7/7 ") && line.ends_with(" owned");
        assert!(listed.stdout.lines().any(is_owned), "{}", listed.stdout);
        drop(end);
        watch.join().expect("no panic")
    });
    assert!(found.is_empty(), "{found:?}");
    // A library that was loaded stays.
    assert_eq!(code_below(daemon, &root), BTreeSet::new());
    assert!(!canary.exists(), "a program of the snapshot has run");
    sandbox.assert_serves("after hostile programs");
}
