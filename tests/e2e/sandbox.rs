//! A daemon with a client and a root file system.

use std::path::{Path, PathBuf};

use buildkit_client_llb::{
    Constrained as _, Constraints, FileActions, MarshalOptions, Mount, State, copy, local, merge, scratch,
};
use buildkit_util_testutil::{DaemonOptions, Run, TestDaemon, busybox_rootfs};
use prost::Message as _;
use tempfile::TempDir;

/// What most tests start from.
pub struct Sandbox {
    pub daemon: TestDaemon,
    dir: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self::with(DaemonOptions::new())
    }

    pub fn with(options: DaemonOptions) -> Self {
        let dir = tempfile::tempdir().expect("directory of a test");
        busybox_rootfs(&dir.path().join("rootfs"));
        Self { daemon: options.start(), dir }
    }

    /// A directory of the client.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `buildctl build` of a graph that may use the directory `rootfs`.
    pub fn build(&self, state: &State) -> Run {
        self.build_definition(marshal(state))
    }

    /// As [`Self::build`], for a graph that no builder makes.
    pub fn build_definition(&self, definition: Vec<u8>) -> Run {
        self.daemon
            .buildctl(["build", "--progress", "plain", "--local"])
            .arg(format!("rootfs={}", self.path("rootfs").display()))
            .stdin(definition)
    }

    /// Builds with success and gives the exported directory.
    pub fn export(&self, state: &State) -> PathBuf {
        let out = self.path("out");
        let _ = fs_err::remove_dir_all(&out);
        self.build(state).args(to_directory(&out)).run().assert_ok();
        out
    }

    /// What a shell script writes to `/out/result` on the base.
    pub fn script(&self, script: &str) -> String {
        let out = self.export(&shell(&base(), script));
        fs_err::read_to_string(out.join("result")).expect("result of a script")
    }

    /// Whether the daemon builds still.
    pub fn assert_serves(&mut self, salt: &str) {
        assert_eq!(self.script(&format!("echo serves {salt} > /out/result")), format!("serves {salt}\n"));
    }
}

/// `--output` for a directory.
pub fn to_directory(out: &Path) -> [String; 2] {
    ["--output".to_owned(), format!("type=local,dest={}", out.display())]
}

/// The encoded definition.
pub fn marshal(state: &State) -> Vec<u8> {
    state.marshal(&MarshalOptions::new()).expect("a definition").encode_to_vec()
}

/// The root file system of the client, keyed by its content.
pub fn base() -> State {
    let rootfs = local("rootfs").shared_key_hint("rootfs").custom_name("root file system").state();
    scratch()
        .file(FileActions::from(copy(&rootfs, "/", "/").contents_only().create_dest()))
        .env("PATH", "/bin")
}

/// The directory `/out` that a script filled.
pub fn shell(base: &State, script: &str) -> State {
    let run = base.run().args(["/bin/sh", "-c", script]).mount("/out", Mount::scratch()).custom_name(script);
    run.done().mount("/out").expect("a mount with this target")
}

/// Several trees on top of each other.
pub fn together(states: &[State]) -> State {
    merge(states, Constraints::new())
}
