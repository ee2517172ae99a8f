//! Dockerfiles that mean harm.

use std::path::Path;

use buildkit_util_testutil::{DaemonOptions, Run};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::dockerfiles::Context;
use crate::sandbox::Sandbox;
use crate::special::special_files;

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
    let text = Context::new(&sandbox, "context", dockerfile).build(&sandbox).run().text();
    assert!(text.contains("RUN"), "the steps were tried: {text}");
    assert_eq!(fs_err::read_to_string(&canary).unwrap(), "whole");
}

/// The step moves the directory that a mount is on away, and puts a link to the machine in its place: what the daemon
/// made for the mount is not looked for there.
#[test]
fn a1_07_stubs_of_mounts_are_removed_where_they_were_made() {
    let mut sandbox = Sandbox::new();
    let host = sandbox.path("host");
    let canaries = || {
        let kind = |name: &str| fs_err::symlink_metadata(host.join(name)).expect("a canary").is_dir();
        assert!(kind("b/c") && !kind("b/file"), "what is of the machine");
        assert_eq!(fs_err::read_dir(host.join("b")).expect("a folder").count(), 2);
    };
    fs_err::create_dir_all(host.join("b/c")).unwrap();
    fs_err::write(host.join("b/file"), "").unwrap();
    fs_err::write(sandbox.path("secret"), "x").unwrap();
    Run::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(sandbox.path("key"))
        .run()
        .assert_ok();
    let secret = format!("id=s,src={}", sandbox.path("secret").display());
    let key = format!("default={}", sandbox.path("key").display());
    for mount in [
        "type=tmpfs,target=/a/b/c",
        "type=cache,target=/a/b/c",
        "type=bind,from=s,source=/bin,target=/a/b/c",
        "type=bind,from=s,source=/etc/passwd,target=/a/b/file",
        "type=bind,target=/a/b/c",
        "type=secret,id=s,target=/a/b/file",
        "type=ssh,target=/a/b/file",
    ] {
        let host = host.display();
        for moving in [
            format!("mv /a /z && ln -s {host} /a"),
            format!("mv /a/b /z && ln -s {host}/b /a/b"),
            format!("mv /a /z && mkdir /a && ln -s {host}/b /a/b"),
        ] {
            let dockerfile = format!(
                "FROM busybox AS s\nFROM busybox AS steps\nENV PATH=/bin\n\
                 RUN --mount={mount} {moving} && ls -d /z > /done\n\
                 FROM scratch\nCOPY --from=steps /done /\n"
            );
            let context = Context::new(&sandbox, "context", &dockerfile);
            let out = context.export(&sandbox, &["--secret", &secret, "--ssh", &key]);
            assert!(out.join("done").exists(), "{mount}: it was moved");
            canaries();
        }
    }
    sandbox.assert_serves("after moved mounts");
}

/// Nothing waits for a pipe or reads a device, wherever a build is told to look.
#[test]
fn a1_20_special_files_are_no_files_of_builds() {
    let mut sandbox = Sandbox::new();
    let special = special_files(&sandbox);
    let place = |context: &Context, from: &str, to: &str| {
        let path = context.path().join(to);
        let _ = fs_err::remove_file(&path);
        fs_err::rename(special.join(from), &path).unwrap();
        special_again(&special);
    };
    for kind in ["pipe", "char", "block"] {
        let context = Context::new(&sandbox, "context", "FROM scratch\nCOPY / /all/\nCOPY node /copied\n");
        place(&context, kind, "node");
        let out = context.export(&sandbox, &[]);
        for name in ["all/node", "copied"] {
            let found = fs_err::symlink_metadata(out.join(name)).expect("an entry").file_type();
            assert!(!found.is_file() && !found.is_dir() && !found.is_symlink(), "{kind}: {name} is a node");
        }
        // An archive is looked for in what is added.
        fs_err::write(context.path().join("Dockerfile"), "FROM scratch\nADD node /added\n").unwrap();
        context.build(&sandbox).run().assert_ok();
        fs_err::remove_file(context.path().join("node")).unwrap();

        place(&context, kind, ".dockerignore");
        context.build(&sandbox).run().assert_fails();
        fs_err::remove_file(context.path().join(".dockerignore")).unwrap();
        place(&context, kind, "Dockerfile");
        let failed = context.build(&sandbox).run().assert_fails().text();
        assert!(failed.contains("Dockerfile"), "{kind}: {failed}");
        // To write to it would be to wait for a reader.
        fs_err::remove_file(context.path().join("Dockerfile")).unwrap();
    }
    // Of a stage, with the files that steps are started by.
    let stage =
        "FROM busybox AS s\nENV PATH=/bin\nRUN mkfifo /pipe && mknod /char c 1 5 && mknod /block b 8 0\n";
    let copied =
        format!("{stage}FROM scratch\nCOPY --from=s /pipe /char /block /\nADD --chown=1:2 Dockerfile /\n");
    Context::new(&sandbox, "stage", &copied).build(&sandbox).run().assert_ok();
    for make in ["mkfifo $f", "mknod $f c 1 5", "mknod $f b 8 0"] {
        let dockerfile = format!(
            "FROM busybox AS s\nENV PATH=/bin\nRUN for f in /passwd /group; do {make}; done; \
             rm -f /etc/passwd /etc/group; mv /passwd /group /etc\n\
             FROM s\nUSER nobody\nRUN true\n"
        );
        Context::new(&sandbox, "users", &dockerfile).build(&sandbox).run().assert_fails();
        let chown = dockerfile.replace("USER nobody\nRUN true", "COPY --chown=nobody Dockerfile /");
        // Nobody is in no list, as in that of an empty image.
        let _ = Context::new(&sandbox, "users", &chown).build(&sandbox).run();
    }
    sandbox.assert_serves("after special files");
}

/// Makes what was taken away anew.
fn special_again(special: &Path) {
    for (name, kind, device) in [
        ("pipe", FileType::Fifo, 0),
        ("char", FileType::CharacterDevice, makedev(1, 5)),
        ("block", FileType::BlockDevice, makedev(8, 0)),
    ] {
        if fs_err::symlink_metadata(special.join(name)).is_err() {
            mknodat(CWD, special.join(name), kind, Mode::from_raw_mode(0o640), device).expect("a node");
        }
    }
}

/// Builds files that are small and mean much, or are large themselves; the daemon goes on.
struct Bombs(Sandbox);

impl Bombs {
    fn new() -> Self {
        Self(Sandbox::new())
    }

    /// What is said of a file that is refused, at this place.
    #[track_caller]
    fn refused(&self, name: &str, dockerfile: &str, place: &str) -> String {
        let failed = Context::new(&self.0, name, dockerfile).build(&self.0).run().assert_fails().text();
        // It may be very long.
        let start: String = failed.chars().take(2000).collect();
        assert!(failed.contains(place), "{name}: {start}");
        failed
    }

    fn built(&self, name: &str, dockerfile: &str) {
        Context::new(&self.0, name, dockerfile).build(&self.0).run().assert_ok();
    }

    fn end(mut self) {
        self.0.assert_serves("after bombs");
    }
}

/// Values that have each other twice: as large as 2^30 of them.
fn doubling(keyword: &str) -> String {
    (1..40).map(|n| format!("{keyword} A{n}=$A{0}$A{0}\n", n - 1)).collect()
}

#[test]
fn a4_05_values_in_each_other_end_in_an_error() {
    let bombs = Bombs::new();
    let global = format!("ARG A0=xxxxxxxx\n{}FROM scratch\nCOPY a /\n", doubling("ARG"));
    bombs.refused("global", &global, "Dockerfile:");
    let own = format!("FROM scratch\nENV A0=xxxxxxxx\n{}COPY a /\n", doubling("ENV"));
    bombs.refused("own", &own, "Dockerfile:");
    let nested = format!("FROM scratch\nENV A={}{}\n", "${A:-".repeat(100_000), "}".repeat(100_000));
    bombs.refused("nested", &nested, "Dockerfile:");
    bombs.end();
}

#[test]
fn a4_05_arrays_in_each_other_end_in_an_error() {
    let bombs = Bombs::new();
    let (open, close) = ("[".repeat(30_000), "]".repeat(30_000));
    for keyword in ["CMD", "SHELL", "VOLUME"] {
        let dockerfile = format!("FROM scratch\nCOPY Dockerfile /\n{keyword} {open}{close}\n");
        bombs.refused(keyword, &dockerfile, "Dockerfile:3");
    }
    bombs.end();
}

#[test]
fn a4_05_many_stages_are_built() {
    let bombs = Bombs::new();
    let stages: String =
        (0..3000).map(|n| format!("FROM scratch AS s{n}\nCOPY Dockerfile /f{n}\n")).collect();
    bombs.built("stages", &stages);
    bombs.end();
}

#[test]
fn a4_05_very_many_empty_stages_are_built() {
    let bombs = Bombs::new();
    let many: String = (0..100_000).map(|n| format!("FROM scratch AS s{n}\n")).collect();
    bombs.built("many", &format!("{many}COPY Dockerfile /\n"));
    bombs.end();
}

#[test]
fn a4_05_chains_of_stages_are_built() {
    let bombs = Bombs::new();
    let chain: String = (1..300).map(|n| format!("FROM s{} AS s{n}\nENV X{n}=1\n", n - 1)).collect();
    bombs.built("chain", &format!("FROM scratch AS s0\nCOPY Dockerfile /\n{chain}"));
    bombs.end();
}

#[test]
fn a4_05_what_names_itself_ends_in_an_error() {
    let bombs = Bombs::new();
    // Triggers that need the stage that they are for, and that are triggers again.
    let itself = "FROM scratch AS a\nONBUILD COPY --from=b /x /\nFROM a AS b\nCOPY Dockerfile /x\n";
    bombs.refused("triggers", itself, "Dockerfile:");
    let again = format!("FROM scratch\n{} RUN x\n", "ONBUILD ".repeat(1000));
    let failed = bombs.refused("again", &again, "Dockerfile:2");
    assert!(failed.contains("ONBUILD ONBUILD"), "{failed}");
    let frontend = "# syntax=dockerfile.v0\nFROM scratch\nCOPY Dockerfile /\n";
    bombs.refused("syntax", frontend, "Dockerfile:1");
    bombs.end();
}

#[test]
fn a4_05_large_documents_end_in_an_error() {
    let bombs = Bombs::new();
    // Of 100 MB.
    let document = format!("FROM scratch\nCOPY <<EOF /\n{}EOF\n", "0123456789abcde\n".repeat(100 << 16));
    let failed = bombs.refused("document", &document, "larger than");
    assert!(failed.contains("Dockerfile"), "of which file");
    bombs.end();
}
