//! Builds that work.

use std::os::unix::fs::MetadataExt as _;

use buildkit_client_llb::{
    Constraints, FileActions, Mount, copy, diff, local, mkdir, mkfile, rm, scratch, symlink,
};

use crate::sandbox::{Sandbox, base, shell, to_directory, together};

#[test]
fn steps_run_and_are_exported_and_cached_over_a_restart() {
    let mut sandbox = Sandbox::new();
    let steps: Vec<_> = (1..=3)
        .map(|n| shell(&base(), &format!("echo marker-$((40+{n})); echo hello {n} > /out/{n}")))
        .collect();
    let all = together(&steps);
    let before = sandbox.daemon.census();

    let out = sandbox.path("out");
    let first = sandbox.build(&all).args(to_directory(&out)).run().assert_ok();
    assert!(first.text().contains("marker-42"), "{}", first.text());
    for n in 1..=3 {
        assert_eq!(fs_err::read_to_string(out.join(n.to_string())).unwrap(), format!("hello {n}\n"));
    }
    sandbox.daemon.assert_nothing_left(&before);

    for restart in [false, true] {
        if restart {
            sandbox.daemon.restart();
        }
        let again = sandbox.path(&format!("again-{restart}"));
        let output = sandbox.build(&all).args(to_directory(&again)).run().assert_ok();
        assert!(!output.text().contains("marker-42"), "restart {restart}: {}", output.text());
        assert!(output.text().contains("CACHED"), "restart {restart}: {}", output.text());
        assert_eq!(fs_err::read_to_string(again.join("2")).unwrap(), "hello 2\n");
    }
}

#[test]
fn file_operations_make_the_tree_that_they_say() {
    let sandbox = Sandbox::new();
    let context = sandbox.path("context");
    fs_err::create_dir_all(context.join("sub")).unwrap();
    for (name, content) in [("a.txt", "a"), ("b.log", "b"), ("sub/c.txt", "c")] {
        fs_err::write(context.join(name), content).unwrap();
    }
    let files = local("context").exclude(["*.log"]).state();
    let state = scratch().file(
        FileActions::from(mkdir("/d", 0o750).parents())
            .then(mkfile("/d/f", 0o640, "text"))
            .then(mkfile("/gone", 0o644, ""))
            .then(symlink("d/f", "/link"))
            .then(copy(&files, "/", "/copied").contents_only().create_dest())
            .then(rm("/gone")),
    );
    let out = sandbox.path("out");
    sandbox
        .build(&state)
        .arg("--local")
        .arg(format!("context={}", context.display()))
        .args(to_directory(&out))
        .run()
        .assert_ok();
    let mode = |name: &str| fs_err::symlink_metadata(out.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/f")), (0o750, 0o640));
    assert_eq!(fs_err::read_to_string(out.join("link")).unwrap(), "text");
    assert_eq!(fs_err::read_link(out.join("link")).unwrap().to_str(), Some("d/f"));
    assert_eq!(fs_err::read_to_string(out.join("copied/sub/c.txt")).unwrap(), "c");
    assert!(!out.join("gone").exists() && !out.join("copied/b.log").exists());
}

#[test]
fn merge_and_diff_compose_trees() {
    let sandbox = Sandbox::new();
    let lower = scratch().file(FileActions::from(mkfile("/a", 0o644, "a")).then(mkfile("/b", 0o644, "b")));
    let upper = lower.file(FileActions::from(rm("/a")).then(mkfile("/c", 0o644, "c")));
    let change = diff(&lower, &upper, Constraints::new());
    let other =
        scratch().file(FileActions::from(mkfile("/a", 0o644, "other")).then(mkfile("/x", 0o644, "x")));
    let out = sandbox.export(&together(&[other, change]));
    let mut names: Vec<_> = fs_err::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["c", "x"], "the diff removes `a`");
}

#[test]
fn a_tar_holds_the_tree() {
    let sandbox = Sandbox::new();
    let state = scratch().file(FileActions::from(mkdir("/d", 0o755)).then(mkfile("/d/f", 0o644, "text")));
    let tar = sandbox.path("out.tar");
    sandbox.build(&state).arg("--output").arg(format!("type=tar,dest={}", tar.display())).run().assert_ok();
    let output = buildkit_util_testutil::Run::new("tar").arg("-tf").arg(&tar).run().assert_ok();
    assert_eq!(output.stdout, "d/\nd/f\n");
}

#[test]
fn cache_mounts_keep_their_files_and_secrets_leave_none() {
    let mut sandbox = Sandbox::new();
    let canary = "b5f0a1c4-secret-canary-9e7d";
    fs_err::write(sandbox.path("secret"), canary).unwrap();
    for n in 1..=2 {
        let script =
            format!("echo {n} >> /cache/log; cat /cache/log > /out/log; md5sum < /run/secrets/s > /out/sum");
        let state = base()
            .run()
            .args(["/bin/sh", "-c", &script])
            .mount("/cache", Mount::cache("c", buildkit_client_llb::CacheSharing::Shared))
            .mount("/out", Mount::scratch())
            .secret(buildkit_client_llb::Secret::file("s", "/run/secrets/s"))
            .done()
            .mount("/out")
            .unwrap();
        let out = sandbox.path(&format!("out{n}"));
        let secret = format!("id=s,src={}", sandbox.path("secret").display());
        sandbox.build(&state).args(["--secret", &secret]).args(to_directory(&out)).run().assert_ok();
        let expect: String = (1..=n).map(|line| format!("{line}\n")).collect();
        assert_eq!(fs_err::read_to_string(out.join("log")).unwrap(), expect);
    }
    sandbox.daemon.stop();
    let found =
        buildkit_util_testutil::Run::new("grep").args(["-r", "-l", canary]).arg(sandbox.daemon.dir()).run();
    assert_eq!(found.stdout, "", "the secret is on disk");
}
