//! Images that want something of the machine which they are pulled to.

use buildkit_client_llb::{FileActions, State, copy, image, mkfile, scratch};
use buildkit_util_testutil::{Image, Layer, Output, Registry};
use serde_json::json;

use crate::sandbox::{Sandbox, shell, together};

fn on(name: &str) -> State {
    image(name).state().env("PATH", "/bin")
}

fn run(state: &State, script: &str) -> State {
    state.run().args(["/bin/sh", "-c", script]).root()
}

/// The line that says why a build failed.
fn error_line(output: &Output) -> String {
    let text = output.text();
    text.lines().find(|line| line.starts_with("error:")).unwrap_or_default().to_owned()
}

/// The most memory that the daemon ever had, in KiB.
fn peak(sandbox: &Sandbox) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{}/status", sandbox.daemon.id())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a1_13_user_files_of_images_are_not_read_without_bounds() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&Image::busybox(), "library/busybox", "latest");
    let hostile = [
        ("truncate -s 8G /etc/F", "a file with a hole"),
        ("head -c 40000000 /dev/zero | tr '\\0' x > /etc/F", "one line"),
        ("mkfifo /etc/F", "a pipe"),
        ("mknod /etc/F c 1 5", "a device"),
        ("ln -s F /etc/F", "a loop"),
        ("ln -s /proc/1/environ /etc/F", "a link into another file system"),
        ("mkdir /etc/F", "a directory"),
    ];
    for file in ["passwd", "group"] {
        for (make, what) in hostile {
            let make =
                format!("mkdir -p /etc; rm -rf /etc/{file}; {make}").replace("/F", &format!("/{file}"));
            let make = if file == "group" { format!("{make}; echo x:x:5:5:::> /etc/passwd") } else { make };
            let made = run(&on(&name), &make.replace("ln -s F", &format!("ln -s {file}")));
            sandbox.build(&made).run().assert_ok();
            let before = peak(&sandbox);
            let user = if file == "passwd" { "x" } else { "x:y" };
            let ran = made.run().user(user).args(["/bin/sh", "-c", "id -u"]).root();
            let failed = sandbox.build(&ran).run().assert_fails();
            let line = error_line(&failed);
            assert!(
                line.contains(&format!("/etc/{file}")) || line.contains("unable to find"),
                "{file}, {what}: {line}"
            );
            // Files of others by name; what is not found is root's.
            let empty = scratch().file(FileActions::from(mkfile("/f", 0o644, "")));
            let owned = made.file(FileActions::from(copy(empty, "/f", "/f").owner(user)));
            let output = sandbox.build(&owned).run();
            assert!(output.status.code().is_some(), "{file}, {what}: {output:?}");
            let rise = peak(&sandbox).saturating_sub(before);
            assert!(rise < 32 << 10, "{file}, {what}: {rise} KiB more");
        }
    }
    sandbox.assert_serves("after hostile files of users");
}

#[test]
fn a2_09_odd_users_are_not_root() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    let name = registry.push(&Image::busybox(), "library/busybox", "latest");
    let odd = [
        "4294967296",
        "4294967295",
        "-1",
        "2147483648:0",
        "1:2147483648",
        "-0",
        "18446744073709551616",
        "0x0",
        " 0",
        "0 ",
        "+0",
        "\u{0660}",
        "1000:4294967296",
        "1000:-1",
        "nobody-here",
        "1e3",
    ];
    for user in odd {
        let ran = on(&name).run().user(user).args(["/bin/sh", "-c", "echo uid=$(id -u)"]).root();
        let failed = sandbox.build(&ran).run().assert_fails();
        assert!(!failed.text().contains("uid=0"), "{user:?}: {}", failed.text());
        let line = error_line(&failed);
        assert!(line.contains("must be in range") || line.contains("unable to find"), "{user:?}: {line}");
    }
    for (user, id) in
        [("0", 0), ("root", 0), ("", 0), ("1000", 1000), ("1000:", 1000), ("2147483647", 2_147_483_647)]
    {
        let ran = on(&name).run().user(user).args(["/bin/sh", "-c", "echo uid=$(id -u)."]).root();
        let text = sandbox.build(&ran).run().assert_ok().text();
        assert!(text.contains(&format!("uid={id}.")), "{user:?}: {text}");
    }
}

#[test]
fn a2_12_images_do_not_reach_the_host_while_they_are_unpacked() {
    const PULLS: usize = 64;
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let canary = sandbox.path("canary");
    fs_err::create_dir(&canary).expect("a directory");
    fs_err::write(canary.join("keep"), "as it was").expect("a file");
    let host = canary.display().to_string();
    let inside = canary.strip_prefix("/").expect("an absolute path").display().to_string();
    let busybox = tempfile::tempdir().expect("a directory");
    buildkit_util_testutil::busybox_rootfs(busybox.path());
    let layers = [
        Layer::from_dir(busybox.path()),
        Layer::new().symlink("escape", &host).symlink("up", "../../../../../../../..").dir("shared", 0o777),
        Layer::new()
            .file("escape/written", 0o644, "pwned")
            .whiteout("escape/keep")
            .file(&format!("up/{inside}/written"), 0o644, "pwned")
            .file("shared/a", 0o644, "a"),
        Layer::new().file("shared/b", 0o644, "b"),
    ];
    let pushed = Image::new("linux/amd64", &layers, json!({}));
    let names: Vec<_> = (0..PULLS).map(|n| registry.push(&pushed, &format!("app{n}"), "v1")).collect();
    for round in 0..2 {
        let steps: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(n, name)| {
                if n % 4 != 0 {
                    return image(name).state();
                }
                // Children of what the others are being unpacked to.
                let script = format!(
                    "rm -rf /escape /shared; ln -s {host} /escape; ln -s {host} /shared; echo {round} {n} > /made{n}; \
                     test ! -e /escape/keep"
                );
                run(&on(name), &script)
            })
            .collect();
        sandbox.build(&together(&steps)).run().assert_ok();
        let found: Vec<_> = fs_err::read_dir(&canary)
            .expect("the canary")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(found, ["keep"]);
        assert_eq!(fs_err::read_to_string(canary.join("keep")).expect("the canary"), "as it was");
        // What was unpacked is the image's, not what a step made of it.
        let script = "cat /shared/a /shared/b > /out/result; readlink /escape >> /out/result";
        let out = sandbox.export(&shell(&on(&names[1]), script));
        let result = fs_err::read_to_string(out.join("result")).expect("a result");
        assert!(result.starts_with("ab"), "{result}");
        sandbox.daemon.buildctl(["prune", "--all"]).run().assert_ok();
    }
    sandbox.assert_serves("after hostile images");
}
