//! What steps of Dockerfiles could do to the machine by how containers are started.

use std::path::Path;

use buildkit_client_llb::State;
use buildkit_util_testutil::{DaemonOptions, Run, rounds};

use crate::dockerfiles::Context;
use crate::sandbox::{Sandbox, base, shell};

/// The value of a setting of the kernel that a container must not change.
fn setting(name: &str) -> String {
    fs_err::read_to_string(Path::new("/proc/sys/kernel").join(name)).unwrap_or_default()
}

/// Every run that is accepted is filtered; a mode of another name or number is none.
#[test]
fn a1_12_steps_are_filtered_whatever_they_ask_for() {
    let sandbox = Sandbox::new();
    let status = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status >> /log";
    let dockerfile = format!(
        "FROM busybox AS steps\nENV PATH=/bin\n\
         RUN {status}\n\
         RUN --security=sandbox {status}\n\
         RUN --network=none {status}\n\
         USER 1000\n\
         FROM scratch\nCOPY --from=steps /log /\n"
    );
    let out = Context::new(&sandbox, "context", &dockerfile).export(&sandbox, &[]);
    let log = fs_err::read_to_string(out.join("log")).unwrap();
    let filters: Vec<_> = log.lines().filter(|line| line.starts_with("Seccomp:")).collect();
    assert_eq!(filters.len(), 3, "{log}");
    assert!(filters.iter().all(|line| line.ends_with("\t2")), "{log}");
    for mode in ["2", "99", "-1", "2147483647", "SANDBOX", "unconfined"] {
        let dockerfile = format!("FROM busybox\nRUN --security={mode} true\n");
        let failed =
            Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run().assert_fails().text();
        let told = format!("security \"{}\" is not valid", mode.to_lowercase());
        assert!(failed.to_lowercase().contains(&told.to_lowercase()), "{mode}: {failed}");
    }
}

/// No descriptor of the daemon or of its runtime is there for a container to begin in.
#[test]
fn a2_01_directories_of_others_are_no_working_directory() {
    let mut sandbox = Sandbox::new();
    // What a step has open: its own shell's three.
    // In a shell of its own: the first one has more open meanwhile for a pipeline, or to have its own output back.
    let seen = sandbox.script("(ls /proc/1/fd > /out/result); true");
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["0", "1", "2"], "descriptors of a step");
    for n in 3..=30 {
        let place = format!("/proc/self/fd/{n}");
        // Whatever it begins in, it is not a directory of the machine.
        let script = "pwd -P; ls -a . .. ../.. ../../.. ../../../..; cat ../../../../etc/hostname";
        let dockerfile = format!("FROM busybox\nENV PATH=/bin\nWORKDIR {place}\nRUN {script}\n");
        let text = Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run().assert_fails().text();
        assert!(!text.contains("buildkitd"), "{place}: {text}");
        let step: State = base().run().dir(&place).args(["/bin/sh", "-c", script]).done().root();
        sandbox.build(&step).run().assert_fails();
    }
    sandbox.assert_serves("after odd directories");
}

/// Whatever the daemon opens is closed in the programs that it starts.
#[test]
fn a2_01_descriptors_of_the_daemon_are_its_own() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.build(&shell(&base(), "echo is-running; sleep 600")).start();
    client.wait_for_text("is-running\n");
    let directory = format!("/proc/{}/fdinfo", sandbox.daemon.id());
    let mut looked_at = 0;
    for entry in fs_err::read_dir(&directory).expect("descriptors of the daemon") {
        let path = entry.expect("a descriptor").path();
        let number: u32 = path.file_name().and_then(|it| it.to_str()?.parse().ok()).expect("a number");
        // It may be closed meanwhile.
        let Ok(info) = fs_err::read_to_string(&path) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
        let flags = u32::from_str_radix(flags.trim(), 8).expect("an octal number");
        let target =
            fs_err::read_link(format!("/proc/{}/fd/{number}", sandbox.daemon.id())).unwrap_or_default();
        // What the test itself was started with is not the daemon's.
        let is_handed_down =
            fs_err::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|own| own == target);
        assert!(
            number < 3 || is_handed_down || flags & 0o2_000_000 != 0,
            "{number} ({}) is inherited",
            target.display()
        );
        looked_at += 1;
    }
    assert!(looked_at > 10, "only {looked_at} descriptors");
    client.signal(rustix::process::Signal::INT);
    client.wait();
}

/// Images that put links where a runtime masks, makes devices or opens a console.
#[test]
fn a2_02_links_in_place_of_devices_change_nothing() {
    let mut sandbox = Sandbox::new();
    let before = ["core_pattern", "sysrq"].map(setting);
    for (path, to) in [
        ("/dev/null", "/proc/sys/kernel/core_pattern"),
        ("/dev/pts/0", "/proc/sys/kernel/core_pattern"),
        ("/dev/console", "/proc/sys/kernel/sysrq"),
        ("/dev", "/proc/sys/kernel"),
        ("/proc", "/dev"),
        ("/sys", "/proc/sys"),
    ] {
        let dockerfile = format!(
            "FROM busybox AS made\nENV PATH=/bin\n\
             RUN [\"/bin/busybox\", \"sh\", \"-c\", \"mkdir -p /made/dev/pts /made/proc /made/sys; \
             rm -rf /made{path}; ln -s {to} /made{path}; cp -a /bin /made/bin\"]\n\
             FROM scratch\nENV PATH=/bin\nCOPY --from=made /made /\n\
             RUN echo broken > {path}; echo ended\n"
        );
        // It may be refused, or find the container's own device.
        let _ = Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run();
        assert_eq!(["core_pattern", "sysrq"].map(setting), before, "{path} -> {to}");
    }
    // Directories that steps share must not lie where the runtime sets things up.
    for target in ["/dev", "/proc", "/proc/self", "/sys", "/dev/pts", "/dev/mqueue"] {
        let step = |n: usize| {
            format!(
                "FROM busybox AS s{n}\nENV PATH=/bin\n\
                 RUN --mount=type=cache,target={target},id=shared rm -f {target}/null; \
                 ln -s /proc/sys/kernel/core_pattern {target}/null; echo {n} > /n\n"
            )
        };
        let dockerfile =
            format!("{}{}FROM scratch\nCOPY --from=s0 /n /0\nCOPY --from=s1 /n /1\n", step(0), step(1));
        let output = Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run();
        assert_eq!(["core_pattern", "sysrq"].map(setting), before, "{target}");
        let is_set_up_by_runtime = !target.starts_with("/dev/");
        assert!(!is_set_up_by_runtime || !output.status.success(), "{target}: {}", output.text());
    }
    sandbox.assert_serves("after links in place of devices");
}

/// A runtime without the fixes of these is warned of, and works.
#[test]
fn a2_02_a2_03_old_runtimes_are_warned_of() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = directory.path().join("runc");
    let script =
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'runc version 1.1.0'; exit; fi\nexec runc \"$@\"\n";
    fs_err::write(&runtime, script).expect("a runtime");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(&runtime, executable).expect("a program");
    let flag = format!("--oci-worker-binary={}", runtime.display());
    let mut sandbox = Sandbox::with(DaemonOptions::new().flag(flag));
    sandbox.daemon.wait_for_log("runc 1.1.0 is older than 1.2.8");
    sandbox.assert_serves("with an old runtime");
}

/// Targets of mounts that lead, or are made to lead while a step starts, to a directory of the machine.
#[test]
fn a2_03_targets_of_mounts_stay_in_the_container() {
    let mut sandbox = Sandbox::new();
    let host = sandbox.path("host");
    fs_err::create_dir_all(host.join("d/e")).unwrap();
    let listed = || Run::new("find").arg(&host).arg("-ls").run().assert_ok().stdout;
    let before = listed();
    let up = format!("../../../../../../../..{}", host.display());
    let to_host = host.display().to_string();
    for to in ["/", to_host.as_str(), up.as_str()] {
        let dockerfile = format!(
            "FROM busybox AS linked\nENV PATH=/bin\nRUN ln -s {to} /link && rm -rf /dev && ln -s /etc /dev; true\n\
             FROM linked\n\
             RUN --mount=type=tmpfs,target=/link/d/e --mount=type=cache,target=/link/new echo x > /link/d/e/f; true\n\
             RUN --mount=type=cache,target=/dev/x echo x > /dev/x/f; true\n"
        );
        // It may be refused, or be mounted inside.
        let _ = Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run();
        assert_eq!(listed(), before, "{to}");
    }
    // One step swaps a directory for a link while others have mounts below it.
    for round in 0..rounds(3) {
        let swapping = format!(
            "for n in $(seq 200); do rm -rf /c/d; ln -s {to_host}/d /c/d; rm -f /c/d; mkdir -p /c/d/e; done; echo > /n"
        );
        let mut dockerfile = format!(
            "FROM busybox AS swaps\nENV PATH=/bin ROUND={round}\nRUN --mount=type=cache,id=c,target=/c {swapping}\n"
        );
        let mut last = "FROM scratch\nCOPY --from=swaps /n /n\n".to_owned();
        for n in 0..4 {
            dockerfile.push_str(&format!(
                "FROM busybox AS s{n}\nENV PATH=/bin ROUND={round}\n\
                 RUN --mount=type=cache,id=c,target=/c --mount=type=tmpfs,target=/c/d/e echo x > /c/d/e/f; echo > /n\n"
            ));
            last.push_str(&format!("COPY --from=s{n} /n /n{n}\n"));
        }
        let _ = Context::new(&sandbox, "context", &(dockerfile + &last)).build(&sandbox).run();
        assert_eq!(listed(), before, "round {round}");
    }
    sandbox.assert_serves("after odd targets");
}
