//! Dockerfiles that mean harm.

use buildkit_util_testutil::DaemonOptions;

use crate::dockerfiles::Context;
use crate::sandbox::Sandbox;

#[test]
fn a2_19_links_in_stages_lead_nowhere_else() {
    let sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::create_dir(&canary).unwrap();
    fs_err::write(canary.join("secret"), "of the host").unwrap();
    let dockerfile = format!(
        "FROM busybox AS s\nENV PATH=/bin\nRUN ln -s {0} /r && ln -s / /up\n\
         FROM busybox AS user\nENV PATH=/bin\n\
         RUN --mount=from=s,source=/up,target=/m,rw ls /m > /listed && touch /m/written\n\
         FROM scratch\nCOPY --from=user /listed /\n",
        canary.display()
    );
    let out = Context::new(&sandbox, "context", &dockerfile).export(&sandbox, &[]);
    let listed = fs_err::read_to_string(out.join("listed")).unwrap();
    assert!(listed.contains("up") && !listed.contains("home"), "the stage's root: {listed}");
    let dockerfile = dockerfile.replace("source=/up", "source=/r");
    let failed = Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run().assert_fails().text();
    assert!(!failed.contains("of the host"), "{failed}");
    assert_eq!(fs_err::read_dir(&canary).unwrap().count(), 1);
}

#[test]
fn a2_24_the_daemons_environment_is_not_that_of_steps() {
    let mut options = DaemonOptions::new();
    for n in 0..20 {
        options = options.env(format!("CANARY_{n}"), "of the daemon");
    }
    let sandbox = Sandbox::with(options);
    let dockerfile = "FROM busybox AS s\nRUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox env > /env\"]\nFROM scratch\nCOPY --from=s /env /\n";
    let out = Context::new(&sandbox, "context", dockerfile).export(&sandbox, &[]);
    let env = fs_err::read_to_string(out.join("env")).unwrap();
    assert!(env.contains("PATH=") && !env.contains("CANARY"), "{env}");
}

#[test]
fn a2_25_files_that_images_link_elsewhere_stay() {
    let sandbox = Sandbox::new();
    let canary = sandbox.path("canary");
    fs_err::write(&canary, "whole").unwrap();
    let rootfs = sandbox.path("rootfs");
    fs_err::create_dir_all(rootfs.join("etc")).unwrap();
    for name in ["etc/hosts", "etc/resolv.conf", ".dockerenv", "mounted"] {
        let path = rootfs.join(name);
        let _ = fs_err::remove_file(&path);
        std::os::unix::fs::symlink(&canary, &path).unwrap();
    }
    let dockerfile =
        "FROM busybox\nENV PATH=/bin\nRUN --mount=type=secret,id=none,target=/mounted true\nRUN true\n";
    let _ = Context::new(&sandbox, "context", dockerfile).build(&sandbox).run();
    assert_eq!(fs_err::read_to_string(&canary).unwrap(), "whole");
}

#[test]
fn a1_07_stubs_of_mounts_are_removed_where_they_were_made() {
    let sandbox = Sandbox::new();
    let host = sandbox.path("host/b");
    fs_err::create_dir_all(host.join("c")).unwrap();
    for kind in ["tmpfs", "cache"] {
        let dockerfile = format!(
            "FROM busybox\nENV PATH=/bin\n\
             RUN --mount=type={kind},target=/a/b/c umount /a/b/c 2>/dev/null; rm -rf /a 2>/dev/null; mv /a /z 2>/dev/null; ln -s {} /a; true\n",
            sandbox.path("host").display()
        );
        let _ = Context::new(&sandbox, "context", &dockerfile).build(&sandbox).run();
        assert!(host.join("c").is_dir(), "{kind}");
    }
}

#[test]
fn a4_05_bombs_end_in_an_error_or_in_a_build() {
    let mut sandbox = Sandbox::new();
    let doubling: String =
        (1..40).map(|n| format!("ARG A{n}=$A{0}$A{0}\n", n - 1)).collect::<Vec<_>>().concat();
    let expansion = format!("ARG A0=xxxxxxxx\n{doubling}FROM scratch\nCOPY a /\n");
    let failed = Context::new(&sandbox, "expansion", &expansion).build(&sandbox).run().assert_fails().text();
    assert!(failed.contains("Dockerfile:"), "{failed}");

    let stages: String =
        (0..3000).map(|n| format!("FROM scratch AS s{n}\nCOPY Dockerfile /f{n}\n")).collect();
    Context::new(&sandbox, "stages", &stages).build(&sandbox).run().assert_ok();

    let chain: String =
        (1..300).map(|n| format!("FROM s{} AS s{n}\nENV X{n}=1\n", n - 1)).collect::<Vec<_>>().concat();
    let chain = format!("FROM scratch AS s0\nCOPY Dockerfile /\n{chain}");
    Context::new(&sandbox, "chain", &chain).build(&sandbox).run().assert_ok();
    sandbox.assert_serves("after bombs");
}
