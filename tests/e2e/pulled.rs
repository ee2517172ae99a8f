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

/// A number of KiB that the kernel tells of the daemon.
fn memory(sandbox: &Sandbox, key: &str) -> u64 {
    let status = fs_err::read_to_string(format!("/proc/{}/status", sandbox.daemon.id())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a number");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Does something, in which the daemon must not need more than 32 MiB on top of what it has.
fn frugally<T>(sandbox: &Sandbox, what: &str, work: impl FnOnce() -> T) -> T {
    // Sets the peak to what is there now.
    fs_err::write(format!("/proc/{}/clear_refs", sandbox.daemon.id()), "5").expect("a new peak");
    let before = memory(sandbox, "VmRSS");
    let done = work();
    let rise = memory(sandbox, "VmHWM").saturating_sub(before);
    assert!(rise < 32 << 10, "{what}: {rise} KiB more");
    done
}

/// Layers whose file of users, or of groups, is not what it should be.
///
/// The large ones are holes for the most part, so that no disk is filled. Holes that are more than 200 times as
/// large as the data are refused when the layer is unpacked; the data here is as little as passes.
fn hostile_files(file: &str) -> Vec<(&'static str, Layer)> {
    const GIB: u64 = 1 << 30;
    let path = format!("etc/{file}");
    let of = Layer::new;
    vec![
        ("8 GiB", of().sparse(&path, &vec![b'x'; 44 << 20], 8 * GIB)),
        ("a line of 2 GiB", of().sparse(&path, &vec![b'x'; 11 << 20], 2 * GIB)),
        ("a pipe", of().fifo(&path)),
        ("/dev/zero", of().device(&path, 1, 5)),
        ("a loop", of().symlink(&path, file)),
        ("a loop of two", of().symlink(&path, "other").symlink("etc/other", file)),
        ("a link into another file system", of().symlink(&path, "/proc/1/environ")),
        ("a directory", of().dir(&path, 0o755)),
    ]
}

#[test]
fn a1_13_user_files_of_images_are_not_read_without_bounds() {
    let (mut sandbox, registry) = (Sandbox::new(), Registry::start());
    let rootfs = sandbox.path("rootfs");
    let empty = scratch().file(FileActions::from(mkfile("/f", 0o644, "")));
    for file in ["passwd", "group"] {
        for (number, (what, hostile)) in hostile_files(file).into_iter().enumerate() {
            let what = format!("{file}: {what}");
            let users = Layer::new().file("etc/passwd", 0o644, "x:x:5:5:::\n");
            let layers = [Layer::from_dir(&rootfs), users, hostile];
            let pushed = Image::new("linux/amd64", &layers, json!({}));
            let name = registry.push(&pushed, &format!("{file}{number}"), "v1");
            // Needs the files; a step would have the runtime look at them before all else.
            let made = on(&name).file(FileActions::from(mkfile("/needed", 0o644, "")));
            frugally(&sandbox, &what, || sandbox.build(&made).run().assert_ok());
            let is_large = what.contains("GiB");
            let user = if file == "passwd" { "x" } else { "x:y" };
            let ran = made.run().user(user).args(["/bin/sh", "-c", "id -u"]).root();
            let failed = frugally(&sandbox, &what, || sandbox.build(&ran).run().assert_fails());
            let line = error_line(&failed);
            let texts = if is_large {
                [format!("\"/etc/{file}\" exceeds"), line.clone()]
            } else {
                ["unable to find ".to_owned(), "no matching entries".to_owned()]
            };
            assert!(texts.iter().all(|text| line.contains(text)), "{what}: {line}");
            // Files of others by name: who is not found is root, as in the original.
            let owned = made.file(FileActions::from(copy(empty.clone(), "/f", "/f").owner(user)));
            let output = frugally(&sandbox, &what, || sandbox.build(&owned).run());
            assert_eq!(output.status.success(), !is_large, "{what}: {}", output.text());
            assert!(!is_large || error_line(&output).contains("exceeds"), "{what}: {}", output.text());
        }
    }
    // As good as nothing but holes: no tree comes of it.
    let bomb = Layer::new().sparse("etc/group", b"x", 8 << 30);
    let pushed = Image::new("linux/amd64", &[Layer::from_dir(&rootfs), bomb], json!({}));
    let name = registry.push(&pushed, "bomb", "v1");
    let failed =
        frugally(&sandbox, "a bomb", || sandbox.build(&run(&on(&name), "true")).run().assert_fails());
    assert!(error_line(&failed).contains("too large for its data"), "{}", failed.text());
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
