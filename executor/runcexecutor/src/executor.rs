use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use buildkit_executor::{Error, Executor, Exit, ProcessSpec, RunRequest, SecurityMode};
use buildkit_executor_oci::spec::Process;
use buildkit_executor_oci::{EtcFiles, exec_process};
use buildkit_executor_resources::{Cgroup, Hierarchies};
use buildkit_util_appcontext::{detach, spawn, spawn_blocking};
use buildkit_util_network::Namespace;
use buildkit_util_system::{DEFAULT_PATH_UNIX, Root, lookup_user};
use fs_err as fs;
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::container::{Container, Places};
use crate::leftover;
use crate::log;
use crate::options::{Options, network_of};
use crate::process::{Contact, Ended, Killer, supervise};
use crate::program::{Executable, Program};
use crate::version;

/// How often the file is looked for that says that a container runs.
const START_POLL: Duration = Duration::from_millis(5);
/// How many containers start at a time for each processor. A start is work of the processor alone, so that more of
/// them at once only get into each other's way: each takes a tenth more.
const STARTS_PER_PROCESSOR: usize = 2;
/// When a start that hangs no longer keeps others from starting.
const SLOW_START: Duration = Duration::from_secs(2);

/// Runs containers with the command line of runc. Clones are the same executor.
#[derive(Clone)]
pub struct RuncExecutor {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    program: Program,
    places: Places,
    etc: EtcFiles,
    hierarchies: Hierarchies,
    running: Mutex<HashMap<String, watch::Receiver<Stage>>>,
    starts: Arc<Semaphore>,
    next_exec: AtomicU64,
}

/// How far a container is. Its sender is gone once it has ended.
#[derive(Clone)]
enum Stage {
    Preparing,
    Starting(Arc<Running>),
}

/// What processes that join a container need to know of it.
struct Running {
    bundle: PathBuf,
    pid_file: PathBuf,
    rootfs: PathBuf,
    process: Process,
    cgroup: Cgroup,
    network: Arc<dyn Namespace>,
}

impl RuncExecutor {
    /// Opens an executor, after ending and removing what an earlier one left in its directory.
    ///
    /// # Errors
    /// [`Error::Invalid`] when no runtime is found; [`Error::Io`] when the directory cannot be used.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let inner = blocking("open the executor", move || Inner::open(options)).await?;
        version::check(inner.program.path());
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The runtime that is used.
    pub fn command(&self) -> &Path {
        self.inner.program.path()
    }
}

async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let failed = |source| Error::Other { action: action.to_owned(), source };
    spawn_blocking(work).await.map_err(|error| failed(error.into()))?
}

impl Inner {
    fn open(options: Options) -> Result<Self, Error> {
        let io = |source| Error::Io { action: format!("create `{}`", options.root.display()), source };
        fs::create_dir_all(&options.root).map_err(io)?;
        let root = fs::canonicalize(&options.root).map_err(io)?;
        let hierarchies = Hierarchies::detect().map_err(io)?;
        leftover::clean(&root, &hierarchies)?;
        let places = Places::make(&root)?;
        let etc = EtcFiles::open(&root, options.dns.clone())?;
        let program = Program::new(find_command(&options.commands)?, &places.runtime);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            options,
            program,
            places,
            etc,
            hierarchies,
            running: Mutex::new(HashMap::new()),
            starts: Arc::new(Semaphore::new(STARTS_PER_PROCESSOR * processors)),
            next_exec: AtomicU64::new(0),
        })
    }

    /// The start of a command line. Nothing of this process' environment goes with it.
    fn command(&self, executable: &Executable, bundle: &Path, log: &str) -> Command {
        let mut command = Command::new(&executable.path);
        command.arg0(self.program.path());
        command.env_clear().env("PATH", DEFAULT_PATH_UNIX).kill_on_drop(true).process_group(0);
        command.arg("--root").arg(&self.places.state);
        command.arg("--log").arg(bundle.join(log)).args(["--log-format", "json"]);
        command
    }

    async fn run(self: Arc<Self>, request: RunRequest, cancel: CancellationToken) -> Result<Exit, Error> {
        let RunRequest { id, root, mounts, process, started, cancel: _ } = request;
        let stage = self.register(&id)?;
        let result = self.clone().run_registered(&id, root, mounts, process, started, cancel, &stage).await;
        self.running.lock().remove(&id);
        result
    }

    fn register(&self, id: &str) -> Result<watch::Sender<Stage>, Error> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::Invalid(format!(
                "invalid container id {id:?}: only letters and numbers are allowed"
            )));
        }
        let mut running = self.running.lock();
        if running.contains_key(id) {
            return Err(Error::Invalid(format!("Container `{id}` already exists")));
        }
        let (sender, receiver) = watch::channel(Stage::Preparing);
        running.insert(id.to_owned(), receiver);
        Ok(sender)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    async fn run_registered(
        self: Arc<Self>,
        id: &str,
        root: buildkit_snapshot::Mount,
        mounts: Vec<buildkit_executor::ExecMount>,
        process: ProcessSpec,
        started: Option<oneshot::Sender<()>>,
        cancel: CancellationToken,
        stage: &watch::Sender<Stage>,
    ) -> Result<Exit, Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let ProcessSpec { meta, io, resize, signals } = process;
        let network = tokio::select! {
            network = network_of(&self.options.networks, meta.network).namespace(&meta.hostname) => network,
            () = cancel.cancelled() => return Err(Error::Cancelled),
        };
        // Given back when the container has ended, also to those that join it.
        let network: Arc<dyn Namespace> = network.map(Arc::from).map_err(|error| Error::Other {
            action: format!("connect the container `{id}`"),
            source: error.into(),
        })?;
        spoil_if_insecure(&*network, meta.security);
        let (this, owned_id, join, tty) = (self.clone(), id.to_owned(), network.join(), meta.tty);
        // Before the mounts are there, which each start would copy.
        let place = tokio::select! {
            place = self.starts.clone().acquire_owned() => place.ok(),
            () = cancel.cancelled() => return Err(Error::Cancelled),
        };
        let (container, executable) = blocking("prepare the container", move || {
            let Self { options, places, etc, hierarchies, .. } = &*this;
            Container::prepare(&owned_id, &root, &mounts, &meta, &join, options, places, etc, hierarchies)
                .map(|container| (container, this.program.executable()))
        })
        .await?;

        let pid_file = container.pid_file();
        stage.send_replace(Stage::Starting(Arc::new(Running {
            bundle: container.bundle.clone(),
            pid_file: pid_file.clone(),
            rootfs: container.rootfs.clone(),
            process: container.process.clone(),
            cgroup: container.cgroup.clone(),
            network: network.clone(),
        })));
        let starting = {
            let pid_file = pid_file.clone();
            spawn(async move {
                let runs = until_exists(&pid_file);
                tokio::pin!(runs);
                let is_slow = timeout(SLOW_START, &mut runs).await.is_err();
                drop(place);
                if let Some(started) = started {
                    if is_slow {
                        runs.await;
                    }
                    // Whoever waited may have left.
                    let _ = started.send(());
                }
            })
        };
        let mut command = self.command(&executable, &container.bundle, "log");
        command
            .arg("run")
            .arg("--bundle")
            .arg(&container.bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg("--keep");
        if self.options.no_pivot {
            command.arg("--no-pivot");
        }
        command.arg(&container.id);
        let contact = Contact { io, tty, resize, signals, cancel };
        let ended = supervise(command, contact, Killer::Container(container.cgroup.clone())).await;
        drop(starting);

        blocking("clean up after the container", move || {
            let outcome = ended.and_then(|ended| outcome(ended, &pid_file, &container.bundle));
            let remains = container.finish();
            outcome.map(|exit| Exit { oom_killed: remains.oom_killed, ..exit })
        })
        .await
    }

    async fn exec(
        self: Arc<Self>,
        id: &str,
        process: ProcessSpec,
        cancel: CancellationToken,
    ) -> Result<Exit, Error> {
        let running = self.wait_until_running(id, &cancel).await?;
        let ProcessSpec { meta, io, resize, signals } = process;
        spoil_if_insecure(&*running.network, meta.security);
        let number = self.next_exec.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| running.bundle.join(format!("exec-{number}.{kind}"));
        let (config, pid_file, tty) = (file("json"), file("pid"), meta.tty);
        let (this, written, for_spec) = (self.clone(), config.clone(), running.clone());
        let executable = blocking("prepare the process", move || {
            let user = if meta.user.is_empty() {
                None
            } else {
                let root = Root::open(&for_spec.rootfs).map_err(|error| Error::Io {
                    action: "open the root file system".to_owned(),
                    source: error.into(),
                })?;
                Some(lookup_user(&root, &meta.user).map_err(|error| Error::Invalid(error.to_string()))?)
            };
            let process = exec_process(&for_spec.process, &meta, user.as_ref())?;
            let encoded = serde_json::to_vec(&process).map_err(|source| Error::Other {
                action: "encode the process".to_owned(),
                source: source.into(),
            })?;
            fs::write(&written, encoded)
                .map_err(|source| Error::Io { action: "write the process".to_owned(), source })?;
            Ok(this.program.executable())
        })
        .await?;
        let log_name = format!("exec-{number}.log");
        let mut command = self.command(&executable, &running.bundle, &log_name);
        command.arg("exec").arg("--process").arg(&config).arg("--pid-file").arg(&pid_file).arg(id);
        let contact = Contact { io, tty, resize, signals, cancel };
        let killer = Killer::Process { pid_file: pid_file.clone(), cgroup: running.cgroup.clone() };
        let ended = supervise(command, contact, killer).await?;
        blocking("read the log of the runtime", move || {
            if ended.cancelled {
                return Err(Error::Cancelled);
            }
            if ended.status != 0 && !pid_file.exists() {
                // With the bundle gone, so is the container.
                let detail = log::failure(&running.bundle, &log_name, ended.status);
                return Err(Error::Runtime { detail, status: ended.status });
            }
            Ok(exit(ended.status))
        })
        .await
    }

    async fn wait_until_running(&self, id: &str, cancel: &CancellationToken) -> Result<Arc<Running>, Error> {
        let gone = || Error::NotRunning(id.to_owned());
        let mut stage = self.running.lock().get(id).cloned().ok_or_else(gone)?;
        loop {
            let current = stage.borrow_and_update().clone();
            if let Stage::Starting(running) = current {
                return tokio::select! {
                    () = until_exists(&running.pid_file) => Ok(running),
                    () = closed(&mut stage) => Err(gone()),
                    () = cancel.cancelled() => Err(Error::Cancelled),
                };
            }
            tokio::select! {
                changed = stage.changed() => changed.map_err(|_| gone())?,
                () = cancel.cancelled() => return Err(Error::Cancelled),
            }
        }
    }
}

/// A process with all capabilities can redirect what others would send through the same network later.
fn spoil_if_insecure(network: &dyn Namespace, security: SecurityMode) {
    if security == SecurityMode::Insecure {
        network.spoil();
    }
}

async fn closed(stage: &mut watch::Receiver<Stage>) {
    while stage.changed().await.is_ok() {}
}

async fn until_exists(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(START_POLL).await;
    }
}

fn find_command(names: &[String]) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH_UNIX.into());
    for name in names {
        if name.contains('/') {
            if Path::new(name).is_file() {
                return Ok(PathBuf::from(name));
            }
            continue;
        }
        let found =
            std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(Error::Invalid(format!("No container runtime found, looked for `{}`", names.join("`, `"))))
}

/// What the end of the runtime says of the container.
fn outcome(ended: Ended, pid_file: &Path, bundle: &Path) -> Result<Exit, Error> {
    if ended.cancelled {
        return Err(Error::Cancelled);
    }
    // The file is written once the process runs, so without it the status is the runtime's own.
    if ended.status != 0 && !pid_file.exists() {
        return Err(Error::Runtime {
            detail: log::failure(bundle, "log", ended.status),
            status: ended.status,
        });
    }
    Ok(exit(ended.status))
}

fn exit(status: i32) -> Exit {
    let signal = (129..=192).contains(&status).then_some(status - 128);
    Exit { code: status, signal, oom_killed: false }
}

#[async_trait]
impl Executor for RuncExecutor {
    async fn run(&self, request: RunRequest) -> Result<Exit, Error> {
        // The container has an owner of its own: it is ended and removed also when the caller leaves.
        let cancel = request.cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let (sender, receiver) = oneshot::channel();
        let inner = self.inner.clone();
        detach("container", async move {
            // Without a receiver nobody wants the result.
            let _ = sender.send(inner.run(request, cancel).await);
        });
        receiver
            .await
            .map_err(|error| Error::Other { action: "run the container".to_owned(), source: error.into() })?
    }

    async fn exec(&self, id: &str, process: ProcessSpec, cancel: CancellationToken) -> Result<Exit, Error> {
        let cancel = cancel.child_token();
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let (sender, receiver) = oneshot::channel();
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detach("container process", async move {
            // Without a receiver nobody wants the result.
            let _ = sender.send(inner.exec(&id, process, cancel).await);
        });
        receiver
            .await
            .map_err(|error| Error::Other { action: "run the process".to_owned(), source: error.into() })?
    }

    async fn drain(&self) {
        let running: Vec<_> = self.inner.running.lock().values().cloned().collect();
        for mut stage in running {
            // Fails when the container is gone.
            while stage.changed().await.is_ok() {}
        }
    }
}
