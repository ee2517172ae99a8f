//! What a container may see and do.

use buildkit_client_llb::{FileActions, Mount, Network, mkdir, mkfile, symlink};
use buildkit_util_testutil::Run;

use crate::sandbox::{Sandbox, base, shell};

#[test]
fn a2_07_and_a4_17_containers_are_confined() {
    let sandbox = Sandbox::new();
    let result = sandbox.script(
        "{ grep -E '^(CapInh|CapAmb|CapEff|NoNewPrivs|Seccomp):' /proc/self/status; id -u; \
         head -c 1 /proc/kcore | wc -c; mknod /tmp/block b 8 0 && dd if=/tmp/block of=/dev/null count=1 2>/dev/null && echo read a device; \
         mount -t tmpfs x /tmp 2>/dev/null && echo mounted; echo 1 2>/dev/null > /proc/sys/kernel/core_pattern && echo wrote; \
         ls /sys/firmware | wc -l; ls -1 /proc/self/fd | wc -l; } > /out/result 2>/dev/null; true",
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

#[test]
fn a2_22_links_in_an_image_do_not_lead_out() {
    let mut sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::create_dir_all(&canary).unwrap();
    for name in ["resolv.conf", "hosts"] {
        fs_err::write(canary.join(name), "canary").unwrap();
    }
    let target = canary.display().to_string();
    let hostile = base().file(
        FileActions::from(buildkit_client_llb::rm("/etc"))
            .then(symlink(&target, "/etc"))
            .then(mkdir("/x", 0o755))
            .then(mkfile("/x/y", 0o644, "")),
    );
    let _ = sandbox
        .build(&shell(&hostile, "echo broken > /etc/resolv.conf; echo broken > /etc/hosts; true"))
        .run();
    for name in ["resolv.conf", "hosts"] {
        assert_eq!(fs_err::read_to_string(canary.join(name)).unwrap(), "canary");
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
fn b22_a_fork_bomb_ends_with_its_build() {
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
