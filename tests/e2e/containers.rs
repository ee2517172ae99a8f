//! What a container may see and do.

use buildkit_client_llb::{
    Constrained as _, FileActions, Mount, Network, Platform, mkdir, mkfile, scratch, symlink,
};
use buildkit_util_testutil::{DaemonOptions, Run};

use crate::sandbox::{Sandbox, base, shell};

#[test]
fn a2_07_a4_17_containers_are_confined() {
    let sandbox = Sandbox::new();
    let result = sandbox.script(
        "{ grep -E '^(CapInh|CapAmb|CapEff|NoNewPrivs|Seccomp):' /proc/self/status; id -u; \
         echo kcore $(head -c 1 /proc/kcore | wc -c); echo keys $(cat /proc/keys /proc/timer_list /proc/sched_debug | wc -c); mknod /tmp/block b 8 0 && dd if=/tmp/block of=/dev/null count=1 2>/dev/null && echo read a device; \
         mount -t tmpfs x /tmp 2>/dev/null && echo mounted; echo 1 2>/dev/null > /proc/sys/kernel/core_pattern && echo wrote; \
         echo firmware $(ls /sys/firmware | wc -l); echo powercap $(ls /sys/devices/virtual/powercap | wc -l); \
         echo descriptors $(ls /proc/self/fd); } > /out/result 2>/dev/null; true",
    );
    let value = |name: &str| {
        result.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
    };
    assert_eq!(
        (value("CapInh:"), value("CapAmb:")),
        ("0000000000000000".to_owned(), "0000000000000000".to_owned())
    );
    assert_eq!(value("CapEff:"), "00000000a80425fb", "the default set of fourteen");
    assert_eq!(value("Seccomp:"), "2");
    for masked in ["kcore", "keys", "firmware", "powercap"] {
        assert_eq!(value(&format!("{masked} ")), "0", "{masked}: {result}");
    }
    // The three of a process, and the directory that is being listed.
    assert_eq!(value("descriptors "), "0 1 2 3", "{result}");
    for escape in ["read a device", "mounted", "wrote"] {
        assert!(!result.contains(escape), "{result}");
    }
}

#[test]
fn a2_08_users_have_their_groups() {
    let sandbox = Sandbox::new();
    let state =
        base().run().user("user").args(["/bin/sh", "-c", "echo user $(id -u) groups $(id -G)"]).done().root();
    let text = sandbox.build(&state).run().assert_ok().text();
    assert!(text.contains("user 1000 groups 1000 2000\n"), "{text}");
}

#[test]
fn processes_of_other_platforms_are_given_to_an_emulator() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("buildkit-qemu-sparc64");
    // It is started with the path and the arguments of the process.
    fs_err::write(&program, "#!/bin/sh\necho emulated with $# arguments\nexec \"$@\"\n").unwrap();
    fs_err::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let sandbox = Sandbox::with(DaemonOptions::new().env("PATH", format!("{}:{path}", dir.path().display())));
    let on = |architecture: &str| {
        let script =
            "echo $0; ls -A /dev | grep -c qemu; touch /dev/.buildkit_qemu_emulator || echo read-only";
        base()
            .run()
            .platform(Platform::new("linux", architecture))
            .args(["/bin/sh", "-c", script, architecture])
            .mount("/out", Mount::scratch())
            .done()
            .root()
    };
    let text = sandbox.build(&on("sparc64")).run().assert_ok().text();
    for line in ["emulated with 4 arguments\n", "sparc64\n", " 1\n", "read-only\n"] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    // Without an emulator it is tried all the same: the kernel may know better.
    let text = sandbox.build(&on("sparc")).run().assert_ok().text();
    assert!(text.contains("sparc\n") && !text.contains("emulated"), "{text}");
    let log = sandbox.daemon.log();
    assert!(log.contains("no emulator is known") && log.contains("linux/sparc"), "{log}");
}

#[test]
fn a2_31_a_step_without_network_has_only_itself() {
    let sandbox = Sandbox::new();
    let state = base()
        .run()
        .network(Network::None)
        .args(["/bin/sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > /out/result"])
        .mount("/out", Mount::scratch())
        .done()
        .mount("/out")
        .unwrap();
    let out = sandbox.export(&state);
    assert_eq!(fs_err::read_to_string(out.join("result")).unwrap(), "lo\n");
}

#[test]
fn a1_07_mount_stubs_are_not_removed_through_links() {
    let sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    for place in ["b/c", "b"] {
        fs_err::create_dir_all(canary.join(place)).unwrap();
    }
    fs_err::write(canary.join("b/empty"), "").unwrap();
    let script = format!("umount /a/b/c; rm -rf /a; ln -s {} /a; true", canary.display());
    let mounts: [(&str, Mount); 2] = [
        ("/a/b/c", Mount::tmpfs(0)),
        ("/a/b/c", Mount::cache("stub", buildkit_client_llb::CacheSharing::Shared)),
    ];
    for (target, mount) in mounts {
        let state = base().run().args(["/bin/sh", "-c", &script]).mount(target, mount).done().root();
        // It may fail or not; the machine's files stay.
        let _ = sandbox.build(&state).run();
        assert!(canary.join("b/c").is_dir() && canary.join("b/empty").is_file());
    }
}

/// Names below a directory, with what files hold.
fn content(dir: &std::path::Path) -> Vec<(String, String)> {
    let read = |entry: fs_err::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Whatever else came there is not opened.
        let is_file = entry.file_type().unwrap().is_file();
        (name, if is_file { fs_err::read_to_string(entry.path()).unwrap() } else { String::new() })
    };
    let mut all: Vec<_> = fs_err::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a2_22_links_in_an_image_do_not_lead_out() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::create_dir_all(&canary).unwrap();
    for name in ["resolv.conf", "hosts", "hostname", "secrets"] {
        fs_err::write(canary.join(name), "canary").unwrap();
    }
    let before = content(&canary);
    let target = canary.display().to_string();
    let file = |name: &str| format!("{target}/{name}");
    let links = [
        ("/etc", target.clone()),
        ("/etc/resolv.conf", file("resolv.conf")),
        ("/etc/hosts", file("hosts")),
        ("/etc/hosts", file("new")),
        ("/etc/hosts", "/proc/self/root/../..".to_owned() + &file("hosts")),
        ("/run", target.clone()),
        ("/tmp", target.clone()),
        ("/dev", target.clone()),
    ];
    for (path, to) in links {
        let remove = buildkit_client_llb::rm(path).allow_not_found();
        let hostile = base().file(FileActions::from(remove).then(symlink(&to, path)));
        // What the daemon mounts there, and what the process writes there.
        let script = "for f in /etc/resolv.conf /etc/hosts /run/secrets/s /run/new /tmp/new /dev/new; do \
                      echo broken 2>/dev/null > $f; done; true";
        let run = hostile
            .run()
            .args(["/bin/sh", "-c", script])
            .secret(buildkit_client_llb::Secret::file("s", "/run/secrets/s"))
            .mount("/tmp/mounted", Mount::tmpfs(0));
        let secret = format!("id=s,src={}", sandbox.path("rootfs/etc/passwd").display());
        // It may fail or not.
        let _ = sandbox.build(&run.done().root()).args(["--secret", &secret]).run();
        assert_eq!(content(&canary), before, "{path} -> {to}");
    }
    sandbox.assert_serves("after links");
}

#[test]
fn a2_05_system_directories_are_not_mounted_over() {
    let sandbox = Sandbox::new();
    for target in ["/proc", "/sys", "/proc/self/attr", "/x/../proc"] {
        let state = base().run().args(["/bin/true"]).mount(target, Mount::tmpfs(0)).done().root();
        sandbox.build(&state).run().assert_fails();
    }
}

#[test]
fn a2_05_system_directories_are_not_links() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::create_dir_all(&canary).unwrap();
    fs_err::write(canary.join("there"), "there").unwrap();
    for path in ["/proc", "/sys"] {
        for to in ["/fake", "fake", "/", &canary.display().to_string()] {
            let hostile = base().file(FileActions::from(mkdir("/fake", 0o755)).then(symlink(to, path)));
            // A process that sees another /proc could be told that it is confined.
            let script = "grep -q Seccomp:.2 /proc/self/status && [ -d /sys/kernel ] && echo ran-confined";
            let output = sandbox.build(&shell(&hostile, script)).run();
            let text = output.text();
            let ran = output.status.success();
            assert!(!ran || text.contains("ran-confined\n"), "{path} -> {to}: {text}");
            // Nothing is mounted elsewhere either.
            assert_eq!(content(&canary), [("there".to_owned(), "there".to_owned())], "{path} -> {to}");
        }
    }
    sandbox.assert_serves("after links");
}

#[test]
fn a2_20_names_are_no_mount_options() {
    let mut sandbox = Sandbox::new();
    for odd in [
        "x,rshared",
        "x,bind-propagation=rshared",
        "x\nrshared",
        "x:rshared",
        "x,dev,suid,upperdir=y",
        "x rshared",
    ] {
        let target = format!("/m/{odd}");
        let tree = scratch().file(FileActions::from(mkdir(odd, 0o755)).then(mkfile(
            &format!("{odd}/in"),
            0o644,
            "",
        )));
        let state = base()
            .run()
            .args(["/bin/sh", "-c", "cat /proc/self/mountinfo > /out/result; ls -d /m/x* /sel/in"])
            .mount(&target, Mount::tmpfs(0))
            .mount(&format!("{target}-cache"), Mount::cache(odd, buildkit_client_llb::CacheSharing::Shared))
            .mount("/sel", Mount::bind(&tree).selector(odd).readonly())
            .mount("/out", Mount::scratch())
            .done()
            .mount("/out")
            .unwrap();
        let out = sandbox.export(&state);
        let mounts = fs_err::read_to_string(out.join("result")).unwrap();
        // As the kernel writes it.
        let shown = target.replace(' ', "\\040").replace('\n', "\\012");
        let places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        for place in [shown.clone(), format!("{shown}-cache")] {
            assert!(places.contains(&place.as_str()), "{place}: {mounts}");
        }
        for line in mounts.lines() {
            // Optional fields end with a dash; such as `shared:1` are there.
            let fields: Vec<&str> = line.split(' ').skip(6).take_while(|field| *field != "-").collect();
            assert!(!fields.iter().any(|field| field.starts_with("shared:")), "{line}");
        }
    }
    sandbox.assert_serves("after odd names");
}

#[test]
fn b_22_a_fork_bomb_ends_with_its_build() {
    let mut sandbox = Sandbox::new();
    sandbox.assert_serves("before");
    let before = sandbox.daemon.census();
    // Bounded by itself as well, so that a failing test does not take the machine along.
    let script = "ulimit -u 200; bomb() { sleep 600 & bomb; }; echo started-bomb; bomb";
    let mut client = sandbox.build(&shell(&base(), script)).start();
    client.wait_for_text("started-bomb\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    client.signal(rustix::process::Signal::INT);
    client.wait();
    sandbox.daemon.assert_nothing_left(&before);
    sandbox.assert_serves("after");
}

#[test]
fn exit_codes_and_the_last_lines_are_told() {
    let sandbox = Sandbox::new();
    let output = sandbox.build(&shell(&base(), "echo last words; exit 7")).run().assert_fails();
    let text = output.text();
    assert!(text.contains("exit code: 7") && text.contains("last words"), "{text}");
    let _: Run = sandbox.build(&base());
}
