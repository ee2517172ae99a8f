use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{CreateOptions, ImmutableRef, Mounted, MutableRef};
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_executor::{ContainerMount, ExecMount, Exit, ProcessIo, ProcessSpec, RunRequest};
use buildkit_frontend::{BridgeError, FailedState};
use buildkit_session::SessionGroup;
use buildkit_snapshot::Mount;
use buildkit_solver::{CacheMapStep, Op, OpContext};
use buildkit_solver_errdefs as errdefs;
use buildkit_solver_llbsolver_mounts::{
    AgentRequest, CacheMount, CacheRequest, ExecMounts, HostMount, SecretRequest, Sharing,
};
use buildkit_solver_pb as pb;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::LogStream;
use buildkit_util_progress_logs::{LogLimits, LogWriter};

use super::process::{exit_text, is_success, meta, secret_env, unsuccessful};
use super::{acquire, definition_map, emulator};
use crate::domain::{LlbDomain, OpServices, Tree, failed, sessions};
use crate::spec::{ExecSpec, OpSpec, TypedVertex};
use crate::{Error, Result};

/// Runs a process in a container of mounted trees.
pub(super) struct ExecOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

/// The mounts of a process, made.
#[derive(Default)]
struct Prepared {
    root: Option<Mount>,
    readonly_root: bool,
    mounts: Vec<ExecMount>,
    /// Results in order, with the numbers of their mounts.
    outputs: Vec<(usize, Output)>,
    /// Trees that are written and are no result, with the numbers of their mounts.
    scratch: Vec<(usize, MutableRef)>,
    /// Keeps trees mounted.
    mounted: Vec<Mounted>,
    /// Cache directories in use.
    caches: Vec<CacheMount>,
    /// Secrets and agents.
    host: Vec<HostMount>,
}

impl Prepared {
    /// Keeps a file or socket for as long as the container runs.
    fn keep(&mut self, mount: HostMount) -> ContainerMount {
        let path = mount.path().to_owned();
        self.host.push(mount);
        ContainerMount::Host { path }
    }
}

enum Output {
    /// What the process writes.
    Written(MutableRef),
    /// What was there already.
    Same(Tree),
}

fn cache_error(error: buildkit_cache::Error) -> Error {
    failed(error.kind(), RemoteError::from_error(&error).message)
}

fn mount_error(error: buildkit_solver_llbsolver_mounts::Error) -> Error {
    failed(error.kind(), error.to_string())
}

impl ExecOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }

    fn spec(&self) -> Result<&ExecSpec> {
        match &self.vertex.op {
            OpSpec::Exec(spec) => Ok(spec),
            _ => Err(failed(Kind::Internal, "Vertex is not an exec")),
        }
    }

    /// A tree to write to, on top of another.
    async fn writable(&self, spec: &ExecSpec, dest: &str, below: &Tree) -> Result<MutableRef> {
        let description = format!("mount {dest} from exec {}", spec.meta().args.join(" "));
        let options = CreateOptions { description, ..CreateOptions::default() };
        self.services.cache.create(below.as_ref(), options).await.map_err(cache_error)
    }

    async fn prepare(&self, spec: &ExecSpec, inputs: &[Tree], group: &SessionGroup) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        let special = self.services.mounts.exec(&spec.meta().args.join(" "), group.clone());
        // All at once, so that steps that lock the same directories never wait for each other.
        let caches = spec.op.mounts.iter().zip(&spec.mounts);
        let requests = caches
            .filter(|(_, checked)| checked.kind == pb::MountType::Cache)
            .map(|(mount, checked)| {
                let input = checked.input.and_then(|input| inputs.get(input)).and_then(Option::as_ref);
                Self::cache_request(mount, checked.sharing, input)
            })
            .collect::<Result<Vec<_>>>()?;
        special.reserve(&requests).await.map_err(mount_error)?;
        for (at, (mount, checked)) in spec.op.mounts.iter().zip(&spec.mounts).enumerate() {
            let input: Tree = checked.input.and_then(|input| inputs.get(input).cloned().flatten());
            let source = match checked.kind {
                pb::MountType::Bind => self.bind(spec, at, mount, &input, &mut prepared).await?,
                pb::MountType::Cache => {
                    if checked.output.is_some() && input.is_some() {
                        prepared.outputs.push((at, Output::Same(input.clone())));
                    }
                    let cache = Self::cache(&special, mount, checked.sharing, &input).await?;
                    let source = cache.mount().await.map_err(mount_error)?;
                    prepared.caches.push(cache);
                    Some(ContainerMount::Snapshot { mount: source, selector: mount.selector.clone() })
                }
                pb::MountType::Tmpfs => Some(ContainerMount::Tmpfs {
                    size: mount.tmpfs_opt.as_ref().map_or(0, |tmpfs| tmpfs.size),
                }),
                pb::MountType::Secret => Self::secret(&special, mount, &mut prepared).await?,
                pb::MountType::Ssh => Self::agent(&special, mount, &mut prepared).await?,
            };
            let Some(source) = source else { continue };
            prepared.mounts.push(ExecMount {
                source,
                dest: destination(&mount.dest, &spec.meta().cwd),
                // Secrets are never written to.
                readonly: mount.readonly || checked.kind == pb::MountType::Secret,
            });
        }
        // Parents before what is mounted in them.
        prepared.mounts.sort_by(|a, b| a.dest.cmp(&b.dest));
        Ok(prepared)
    }

    fn cache_request<'a>(
        mount: &'a pb::Mount,
        sharing: pb::CacheSharingOpt,
        base: Option<&'a ImmutableRef>,
    ) -> Result<CacheRequest<'a>> {
        let Some(options) = &mount.cache_opt else {
            return Err(failed(Kind::InvalidArgument, "missing cache mount options"));
        };
        let id = if options.id.is_empty() { &mount.dest } else { &options.id };
        let sharing = match sharing {
            pb::CacheSharingOpt::Shared => Sharing::Shared,
            pb::CacheSharingOpt::Private => Sharing::Private,
            pb::CacheSharingOpt::Locked => Sharing::Locked,
        };
        Ok(CacheRequest { id, dest: &mount.dest, base, sharing })
    }

    async fn cache(
        special: &ExecMounts,
        mount: &pb::Mount,
        sharing: pb::CacheSharingOpt,
        input: &Tree,
    ) -> Result<CacheMount> {
        let CacheRequest { id, dest, base, sharing } = Self::cache_request(mount, sharing, input.as_ref())?;
        special.cache(id, dest, base, sharing).await.map_err(mount_error)
    }

    async fn secret(
        special: &ExecMounts,
        mount: &pb::Mount,
        prepared: &mut Prepared,
    ) -> Result<Option<ContainerMount>> {
        let Some(options) = &mount.secret_opt else {
            return Err(failed(Kind::InvalidArgument, "invalid secret mount options"));
        };
        let request = SecretRequest {
            id: options.id.clone(),
            uid: options.uid,
            gid: options.gid,
            mode: options.mode,
            optional: options.optional,
        };
        let found = special.secret(&request).await.map_err(mount_error)?;
        Ok(found.map(|file| prepared.keep(file)))
    }

    async fn agent(
        special: &ExecMounts,
        mount: &pb::Mount,
        prepared: &mut Prepared,
    ) -> Result<Option<ContainerMount>> {
        let Some(options) = &mount.ssh_opt else {
            return Err(failed(Kind::InvalidArgument, "invalid ssh mount options"));
        };
        let request = AgentRequest {
            id: options.id.clone(),
            uid: options.uid,
            gid: options.gid,
            mode: options.mode,
            optional: options.optional,
        };
        let found = special.agent(&request).await.map_err(mount_error)?;
        Ok(found.map(|socket| prepared.keep(socket)))
    }

    /// Prepares a mount of a tree; `None` when it is the root.
    async fn bind(
        &self,
        spec: &ExecSpec,
        at: usize,
        mount: &pb::Mount,
        input: &Tree,
        prepared: &mut Prepared,
    ) -> Result<Option<ContainerMount>> {
        let is_root = mount.dest == pb::ROOT_MOUNT;
        let has_output = spec.mounts[at].output.is_some();
        let is_kept = mount.readonly && input.is_some() && !is_root;
        let mounted = if has_output && is_kept {
            prepared.outputs.push((at, Output::Same(input.clone())));
            None
        } else if has_output {
            let active = self.writable(spec, &mount.dest, input).await?;
            let mounted = active.mount().await.map_err(cache_error)?;
            prepared.outputs.push((at, Output::Written(active)));
            Some(mounted)
        } else if is_root || !mount.readonly || input.is_none() {
            // Changes are thrown away; a root is writable for the runtime even if not for the process.
            let active = self.writable(spec, &mount.dest, input).await?;
            let mounted = active.mount().await.map_err(cache_error)?;
            prepared.scratch.push((at, active));
            Some(mounted)
        } else {
            None
        };
        let mounted = match (mounted, input) {
            (Some(mounted), _) => mounted,
            (None, Some(tree)) => tree.mount().await.map_err(cache_error)?,
            (None, None) => {
                return Err(failed(Kind::InvalidArgument, format!("mount {} has no input", mount.dest)));
            }
        };
        let source = mounted.mount().clone();
        prepared.mounted.push(mounted);
        if is_root {
            prepared.root = Some(source);
            prepared.readonly_root = mount.readonly;
            return Ok(None);
        }
        Ok(Some(ContainerMount::Snapshot { mount: source, selector: mount.selector.clone() }))
    }

    /// Runs the process to its end.
    async fn run(
        &self,
        cx: &OpContext<LlbDomain>,
        spec: &ExecSpec,
        prepared: &mut Prepared,
        group: &SessionGroup,
    ) -> Result<Exit> {
        // Limits may have been merged with those of other builds.
        let mut meta = meta(spec, &cx.payload(), prepared.readonly_root)?;
        let mut mounts = std::mem::take(&mut prepared.mounts);
        emulator::add(&self.vertex.platform, &mut meta.args, &mut mounts)?;
        meta.env.extend(secret_env(&self.services, group, &spec.op.secretenv).await?);
        let limits = LogLimits::from_env(|name| std::env::var(name).ok());
        let log = |stream| {
            let publisher = cx.clone();
            let id = cx.vertex().id.0.clone();
            let writer = LogWriter::with(id, stream, limits, move |event| publisher.publish(event));
            Some(Box::new(writer) as Box<dyn tokio::io::AsyncWrite + Send + Unpin>)
        };
        let root = prepared
            .root
            .clone()
            .ok_or_else(|| failed(Kind::InvalidArgument, "invalid exec op with no rootfs"))?;
        let request = RunRequest {
            id: buildkit_identity::new_id(),
            root,
            mounts,
            process: ProcessSpec {
                meta,
                io: ProcessIo { stdin: None, stdout: log(LogStream::Stdout), stderr: log(LogStream::Stderr) },
                resize: None,
                signals: None,
            },
            started: None,
            cancel: cx.cancelled().clone(),
        };
        self.services.executor.run(request).await.or_else(|error| match error {
            buildkit_executor::Error::Cancelled => Err(Error::Cancelled),
            // A process that cannot start is one that failed; the runtime has said why on its standard
            // error.
            buildkit_executor::Error::Runtime { status, .. } => {
                Ok(Exit { code: status, signal: None, oom_killed: false })
            }
            other => Err(failed(
                other.kind(),
                format!("{}: {}", unsuccessful(&spec.meta().args), RemoteError::from_error(&other).message),
            )),
        })
    }

    /// Makes trees of everything that was written, for those who want to see why a step failed.
    async fn failed_state(
        spec: &ExecSpec,
        inputs: &[Tree],
        outputs: Vec<(usize, Output)>,
        scratch: Vec<(usize, MutableRef)>,
    ) -> FailedState {
        let input_of =
            |at: usize| spec.mounts[at].input.and_then(|input| inputs.get(input).cloned().flatten());
        let mount_inputs: Vec<Tree> = (0..spec.mounts.len()).map(input_of).collect();
        let mut mounts = mount_inputs.clone();
        let written = outputs.into_iter().filter_map(|(at, output)| match output {
            Output::Written(active) => Some((at, active)),
            Output::Same(_) => None,
        });
        for (at, active) in written.chain(scratch) {
            match active.commit().await {
                Ok(tree) => mounts[at] = Some(tree),
                Err(error) => tracing::warn!(%error, "state of a failed step was not kept"),
            }
        }
        FailedState { inputs: mount_inputs, mounts, ..FailedState::default() }
    }
}

/// Where a mount goes: relative destinations are below the working directory.
fn destination(dest: &str, cwd: &str) -> String {
    if dest.starts_with('/') {
        return dest.to_owned();
    }
    buildkit_util_system::path::join(["/", cwd, dest])
}

#[async_trait]
impl Op<LlbDomain> for ExecOp {
    async fn cache_map(&self, _cx: &OpContext<LlbDomain>, _index: usize) -> Result<CacheMapStep<LlbDomain>> {
        definition_map(&self.services, &self.vertex)
    }

    async fn acquire(&self, _cx: &OpContext<LlbDomain>) -> Result<Box<dyn Send + Sync>> {
        acquire(self.services.parallelism.as_ref()).await
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let spec = self.spec()?;
        let group = sessions(cx);
        let mut prepared = self.prepare(spec, &inputs, &group).await?;
        let exit = self.run(cx, spec, &mut prepared, &group).await;
        let success = matches!(&exit, Ok(exit) if is_success(&spec.meta().valid_exit_codes, exit.code));
        // Asked before what was written is let go of.
        let disk_full = !success && self.services.cache.is_disk_full().await;
        let Prepared { outputs, scratch, mounted, caches, host, .. } = prepared;
        // Trees are complete once nothing of the container is left; then nothing needs them mounted.
        drop((mounted, caches, host));
        let error = match exit {
            Ok(_) if success => None,
            Ok(exit) => {
                let code = u32::try_from(exit.code).unwrap_or(255);
                let mut text = exit_text(&spec.meta().args, &exit);
                // Many programs, and the runtime, do not say that this is why they failed.
                if disk_full {
                    text.push_str(": no space left on device");
                }
                Some(BridgeError::from(RemoteError::new(Kind::Unknown, text).with(errdefs::exit(code))))
            }
            Err(Error::Failed(error)) => Some(error),
            Err(other) => return Err(other),
        };
        if let Some(mut error) = error {
            // On a full disk its place is worth more than a look at it.
            if !disk_full {
                error.state = Some(Arc::new(Self::failed_state(spec, &inputs, outputs, scratch).await));
            }
            return Err(Error::Failed(error));
        }
        let mut results = Vec::with_capacity(outputs.len());
        for (_, output) in outputs {
            results.push(match output {
                Output::Written(active) => Some(active.commit().await.map_err(cache_error)?),
                Output::Same(tree) => tree,
            });
        }
        Ok(results)
    }
}
