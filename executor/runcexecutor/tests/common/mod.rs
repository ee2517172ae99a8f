//! A busybox root file system and an executor. Needs root.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use buildkit_executor::{
    ContainerMount, Error, ExecMount, Executor, Exit, Meta, ProcessIo, ProcessSpec, RunRequest,
};
use buildkit_executor_runcexecutor::{Options, RuncExecutor};
use buildkit_snapshot::{Mount, MountKind};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

/// What runs the containers.
#[derive(Clone, Copy, Debug)]
pub enum Runtime {
    /// The runtime of this workspace.
    Own,
    /// runc of the machine.
    Runc,
}

impl Runtime {
    pub fn options(self, root: impl Into<PathBuf>) -> Options {
        let command = match self {
            Self::Own => {
                buildkit_util_testutil::binary("buildkit-runc").to_str().expect("path is text").to_owned()
            }
            Self::Runc => "runc".to_owned(),
        };
        Options { commands: vec![command], ..Options::new(root) }
    }
}

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub executor: RuncExecutor,
}

pub struct Outcome {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

/// Collects what a process writes.
#[derive(Clone, Default)]
pub struct Sink(pub Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// Waits until the output contains `text`.
    pub async fn wait_for(&self, text: &str) {
        while !self.text().contains(text) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub fn make_rootfs(path: &Path) {
    for directory in ["bin", "etc", "tmp", "root"] {
        std::fs::create_dir_all(path.join(directory)).expect("directory");
    }
    std::fs::copy("/bin/busybox", path.join("bin/busybox")).expect("busybox-static is installed");
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", path.join("bin").join(name)).expect("applet");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n";
    std::fs::write(path.join("etc/passwd"), passwd).expect("passwd");
    std::fs::write(path.join("etc/group"), "root:x:0:\nu:x:1001:\nextra:x:50:u\n").expect("group");
}

static NEXT: AtomicU64 = AtomicU64::new(0);

pub fn next_id() -> String {
    format!("test{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn bind(path: impl Into<PathBuf>) -> Mount {
    Mount { kind: MountKind::Bind, source: path.into(), readonly: false }
}

pub fn mount(source: ContainerMount, dest: &str) -> ExecMount {
    ExecMount { source, dest: dest.to_owned(), readonly: false }
}

pub fn sh(script: &str) -> Meta {
    Meta {
        args: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        ..Meta::default()
    }
}

pub fn request(root: Mount, meta: Meta, mounts: Vec<ExecMount>) -> (RunRequest, Sink, Sink) {
    let (stdout, stderr) = (Sink::default(), Sink::default());
    let io = ProcessIo {
        stdin: None,
        stdout: Some(Box::new(stdout.clone())),
        stderr: Some(Box::new(stderr.clone())),
    };
    let process = ProcessSpec { meta, io, resize: None, signals: None };
    let cancel = CancellationToken::new();
    (RunRequest { id: next_id(), root, mounts, process, started: None, cancel }, stdout, stderr)
}

impl Fixture {
    pub async fn new(runtime: Runtime) -> Self {
        Self::with(runtime, |_| {}).await
    }

    pub async fn with(runtime: Runtime, change: impl FnOnce(&mut Options)) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let dir = tempfile::tempdir().expect("directory");
        make_rootfs(&dir.path().join("rootfs"));
        let mut options = runtime.options(dir.path().join("executor"));
        change(&mut options);
        let executor = RuncExecutor::open(options).await.expect("open");
        Self { dir, executor }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> Mount {
        bind(self.path("rootfs"))
    }

    pub async fn run_with(&self, root: Mount, meta: Meta, mounts: Vec<ExecMount>) -> Result<Outcome, Error> {
        let (request, stdout, stderr) = request(root, meta, mounts);
        let id = request.id.clone();
        let result = self.executor.run(request).await;
        self.assert_nothing_left(&id);
        result.map(|exit| Outcome { exit, stdout: stdout.text(), stderr: stderr.text() })
    }

    pub async fn run(&self, meta: Meta) -> Outcome {
        self.run_with(self.root(), meta, vec![]).await.expect("ran")
    }

    /// Nothing of a container is left: no bundle, state, mount or cgroup.
    pub fn assert_nothing_left(&self, id: &str) {
        for directory in ["executor/run/containers", "executor/run/state"] {
            assert!(!self.path(directory).join(id).exists(), "{directory}/{id} is left");
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&format!("/{id}/")), "a mount is left");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            assert!(!hierarchy.path().join("buildkit").join(id).exists(), "{:?} is left", hierarchy.path());
        }
    }

    /// All paths of the root file system outside of `bin`, with their kind.
    pub fn tree(&self) -> BTreeMap<String, char> {
        fn walk(base: &Path, path: &Path, found: &mut BTreeMap<String, char>) {
            for entry in std::fs::read_dir(path).expect("list").flatten() {
                let kind = entry.file_type().expect("kind");
                let name = entry.path().strip_prefix(base).expect("below").to_string_lossy().into_owned();
                if name == "bin" {
                    continue;
                }
                found.insert(
                    name,
                    if kind.is_dir() {
                        'd'
                    } else if kind.is_symlink() {
                        'l'
                    } else {
                        'f'
                    },
                );
                if kind.is_dir() {
                    walk(base, &entry.path(), found);
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.path("rootfs"), &self.path("rootfs"), &mut found);
        found
    }
}
