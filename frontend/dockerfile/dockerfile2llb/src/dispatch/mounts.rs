use buildkit_client_llb::{
    CacheSharing, Constrained as _, FileActions, Mount as LlbMount, Owner, Run as Process, Secret, Ssh,
    State, mkdir, scratch,
};
use buildkit_frontend_dockerfile_instructions::{Mount, MountType, Run, ShareMode};
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_solver_pb::caps;
use buildkit_util_gopath::{base, clean, is_abs, join};
use buildkit_util_gotext::quoted;

use crate::convert::Converter;
use crate::stage::{SCRATCH, StageId};
use crate::{Error, Result};

const SECRETS: &str = "/run/secrets/";
const CACHE_MODE: u32 = 0o755;
const SECRET_MODE: u32 = 0o400;
const SSH_MODE: u32 = 0o600;

impl Converter<'_> {
    /// Adds the mounts of a process. `sources` are the stages that they are of, one for each.
    pub(super) fn run_mounts(
        &mut self,
        id: StageId,
        it: &Run,
        sources: &[StageId],
        mut process: Process,
    ) -> Result<Process> {
        for (index, mount) in it.mounts.iter().enumerate() {
            let from = match (mount.kind, mount.from.as_str()) {
                (MountType::Cache, "") => SCRATCH,
                (_, from) => from,
            };
            let source = if from.is_empty() { None } else { sources.get(index).copied() };
            let tree = match source {
                Some(source) if !self.stages[source].is_dispatched => {
                    return Err(Error::invalid(format!(
                        "cannot mount from stage {} to {}, stage needs to be defined before current command",
                        quoted(from),
                        quoted(&mount.target)
                    ))
                    .hint("move that stage above this one"));
                }
                Some(source) => self.stages[source].state.clone(),
                None => self.context.state(),
            };
            match mount.kind {
                MountType::Secret => {
                    process = process.secret(self.secret(id, mount, &it.origin.ranges)?);
                    continue;
                }
                MountType::Ssh => {
                    process = process.ssh(self.ssh(id, mount, &it.origin.ranges)?);
                    continue;
                }
                MountType::Bind | MountType::Cache | MountType::Tmpfs => {}
            }
            let target = self.mount_target(id, mount)?;
            process = process.mount(&target, self.mount(mount, tree));

            let path = join(["/", &mount.source]);
            match source {
                Some(source) => self.stages.mark_used(source, path),
                None => {
                    self.stages[id].context_paths.insert(path);
                }
            }
        }
        Ok(process)
    }

    fn mount(&self, mount: &Mount, tree: State) -> LlbMount {
        let selector = join(["/", &mount.source]);
        let has_owner = mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some();
        let tree = if mount.kind == MountType::Tmpfs { scratch() } else { tree };
        let (tree, selector) = match (selector.as_str(), has_owner) {
            ("/", true) => (owned_cache(mount, &tree), "/cache"),
            ("/", false) => (tree, ""),
            (selector, _) => (tree, selector),
        };
        let mut out = match mount.kind {
            MountType::Tmpfs => LlbMount::tmpfs(mount.size_limit),
            MountType::Cache => {
                let sharing = match mount.cache_sharing {
                    Some(ShareMode::Private) => CacheSharing::Private,
                    Some(ShareMode::Locked) => CacheSharing::Locked,
                    Some(ShareMode::Shared) | None => CacheSharing::Shared,
                };
                let id =
                    if mount.cache_id.is_empty() { clean(&mount.target) } else { mount.cache_id.clone() };
                LlbMount::cache(&format!("{}/{id}", self.options.config.cache_id_namespace), sharing)
            }
            _ => LlbMount::scratch(),
        }
        .from(&tree)
        .selector(selector);
        if mount.read_only {
            out = out.readonly();
        } else if mount.kind == MountType::Bind && self.supports(caps::EXEC_MOUNT_BIND_READ_WRITE_NO_OUTPUT) {
            out = out.no_output();
        }
        out
    }

    fn mount_target(&self, id: StageId, mount: &Mount) -> Result<String> {
        let target = if is_abs(&clean(&mount.target)) {
            mount.target.clone()
        } else {
            join(["/", self.stages[id].state.get_dir(), &mount.target])
        };
        if target == "/" {
            return Err(Error::invalid(format!("invalid mount target {}", quoted(&target)))
                .hint("write target=/PATH for a directory below the root"));
        }
        Ok(target)
    }

    fn secret(&mut self, id: StageId, mount: &Mount, ranges: &[Range]) -> Result<Secret> {
        let mut name = if mount.source.is_empty() { &mount.cache_id } else { &mount.source }.clone();
        if name.is_empty() {
            if mount.target.is_empty() {
                return Err(Error::invalid("one of source, target required")
                    .hint("write --mount=type=secret,id=NAME"));
            }
            base(&mount.target).clone_into(&mut name);
        }
        self.stages[id].outline.note_secret(&name, mount.required, ranges);
        let target = match (mount.target.as_str(), &mount.env) {
            ("", None) => Some(format!("{SECRETS}{}", base(&name))),
            ("", Some(_)) => None,
            (target, _) => Some(target.to_owned()),
        };
        let mut secret = match (target, &mount.env) {
            (Some(target), None) => Secret::file(&name, &target),
            (Some(target), Some(env)) => Secret::file(&name, &target).and_env(env),
            (None, env) => Secret::env(&name, env.as_deref().unwrap_or_default()),
        };
        if !mount.required {
            secret = secret.optional();
        }
        if let Some((uid, gid, mode)) = owner(mount, SECRET_MODE) {
            secret = secret.owner(uid, gid, mode);
        }
        Ok(secret)
    }

    fn ssh(&mut self, id: StageId, mount: &Mount, ranges: &[Range]) -> Result<Ssh> {
        if !mount.source.is_empty() {
            return Err(Error::invalid("ssh does not support source").hint("remove source, or write id=NAME"));
        }
        let name = if mount.cache_id.is_empty() { "default" } else { &mount.cache_id };
        self.stages[id].outline.note_ssh(name, mount.required, ranges);
        let mut ssh = Ssh::new(&mount.cache_id).target(&mount.target);
        if !mount.required {
            ssh = ssh.optional();
        }
        if let Some((uid, gid, mode)) = owner(mount, SSH_MODE) {
            ssh = ssh.owner(uid, gid, mode);
        }
        Ok(ssh)
    }
}

/// Owner and mode of a mount, if it has any.
fn owner(mount: &Mount, default_mode: u32) -> Option<(u32, u32, u32)> {
    if mount.uid.is_none() && mount.gid.is_none() && mount.mode.is_none() {
        return None;
    }
    Some((mount.uid.unwrap_or(0), mount.gid.unwrap_or(0), mount.mode.unwrap_or(default_mode)))
}

/// A tree with an empty directory that belongs to who is to use the cache.
fn owned_cache(mount: &Mount, tree: &State) -> State {
    let (uid, gid, mode) = owner(mount, CACHE_MODE).unwrap_or((0, 0, CACHE_MODE));
    let action = mkdir("/cache", mode).owner(Owner::ids(uid, gid));
    tree.file(FileActions::new().then(action).custom_name("[internal] setting cache mount permissions"))
}
