//! Links in images that daemons or runtimes could follow out of them.

use std::path::Path;

use buildkit_client_llb::{FileActions, Mount, mkdir, mkfile, rm, scratch, symlink};

use crate::sandbox::{Sandbox, base, shell};

/// A directory of the machine that no build may see or change.
struct Canary {
    path: std::path::PathBuf,
}

impl Canary {
    fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.path("canary");
        fs_err::create_dir_all(path.join("target")).unwrap();
        for name in ["hosts", "dockerenv", "resolv.conf"] {
            fs_err::write(path.join(name), "canary").unwrap();
        }
        Self { path }
    }

    fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn assert_untouched(&self, what: &str) {
        let mut names: Vec<_> = fs_err::read_dir(&self.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["dockerenv", "hosts", "resolv.conf", "target"], "{what}");
        for name in ["hosts", "dockerenv", "resolv.conf"] {
            assert_eq!(fs_err::read_to_string(self.path.join(name)).unwrap(), "canary", "{what}: {name}");
        }
        let target: &Path = &self.path.join("target");
        assert_eq!(fs_err::read_dir(target).unwrap().count(), 0, "{what}");
    }
}

#[test]
fn a2_19_links_that_are_mounted_lead_into_their_tree_alone() {
    let mut sandbox = Sandbox::new();
    let canary = Canary::new(&sandbox);
    let up = format!("../../../../../../../../../..{}", canary.place(""));
    for to in ["/", &canary.place(""), &up] {
        let stage = scratch().file(FileActions::from(mkfile("/inside", 0o644, "")).then(symlink(to, "/r")));
        for mount in [Mount::bind(&stage).selector("/r"), Mount::bind(&stage).selector("/r").readonly()] {
            // Whatever is seen there is listed; whatever can be written there is written.
            let script = "ls -A /m > /out/result; echo broken > /m/hosts; echo broken > /m/new; true";
            let run = base()
                .run()
                .args(["/bin/sh", "-c", script])
                .mount("/m", mount)
                .mount("/out", Mount::scratch())
                .done();
            let out = sandbox.path("out");
            let run = sandbox.build(&run.mount("/out").unwrap());
            let output = run.args(crate::sandbox::to_directory(&out)).run();
            canary.assert_untouched(to);
            assert!(
                output.status.success() || to != "/",
                "the tree itself can be mounted: {}",
                output.text()
            );
            if output.status.success() {
                // It is the tree of the stage, if it is anything.
                let seen = fs_err::read_to_string(out.join("result")).unwrap();
                let of_stage = |name: &str| matches!(name, "inside" | "r");
                assert!(seen.lines().all(of_stage), "{to}: {seen}");
            }
            let _ = fs_err::remove_dir_all(&out);
        }
    }
    sandbox.assert_serves("after mounted links");
}

#[test]
fn a2_25_files_that_runtimes_write_do_not_follow_links_of_images() {
    let mut sandbox = Sandbox::new();
    let canary = Canary::new(&sandbox);
    let links = [
        ("/etc/hosts", canary.place("hosts")),
        ("/etc/resolv.conf", canary.place("resolv.conf")),
        ("/.dockerenv", canary.place("dockerenv")),
        ("/run/.containerenv", canary.place("dockerenv")),
        // Targets of mounts, which are made where they are missing.
        ("/m", canary.place("target")),
        ("/m", canary.place("new")),
        ("/m", format!("/proc/1/root{}", canary.place("target"))),
    ];
    for (path, to) in links {
        let actions = FileActions::from(mkdir("/run", 0o755).parents()).then(rm(path).allow_not_found());
        let hostile = base().file(actions.then(symlink(&to, path)));
        let step = hostile
            .run()
            .args(["/bin/sh", "-c", "echo broken > /m/tree/new; echo broken > /m/cache/new; true"])
            .mount("/m/tree", Mount::bind(&scratch().file(mkfile("/f", 0o644, ""))))
            .mount("/m/cache", Mount::cache("links", buildkit_client_llb::CacheSharing::Shared));
        // It may fail or not.
        let _ = sandbox.build(&step.done().root()).run();
        let _ = sandbox.build(&shell(&hostile, "true")).run();
        canary.assert_untouched(&format!("{path} -> {to}"));
    }
    sandbox.assert_serves("after links of images");
}
