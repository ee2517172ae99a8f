use std::borrow::Cow;

use buildkit_solver_pb::{self as pb, caps};

use crate::exec::{ExecMount, ExecSpec, Network, Security};
use crate::graph::Node;
use crate::marshal::{Context, Draft, add_input, wire_index};
use crate::mount::{CacheSharing, ContentCache, MountKind};
use crate::{Error, Result};

/// Where programs are looked for when nothing says so.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes an exec op.
pub(crate) fn draft(spec: &ExecSpec, node: &Node, context: &Context<'_>) -> Result<Draft> {
    let values = &spec.values;
    if values.args.is_empty() {
        return Err(Error::IncompleteExec("arguments"));
    }
    if values.dir.is_empty() {
        return Err(Error::IncompleteExec("a working directory"));
    }
    let platform = context.platform(node.constraints.platform.as_ref(), values.platform.as_ref()).clone();
    let mut caps = vec![caps::EXEC_META_BASE];

    let ssh_targets: Vec<Cow<'_, str>> = spec
        .ssh
        .iter()
        .enumerate()
        .map(|(index, ssh)| match ssh.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{index}").into(),
            target => target.into(),
        })
        .collect();

    let meta = pb::Meta {
        args: values.args.clone(),
        env: env(spec, &ssh_targets, &platform.os, context, &mut caps),
        cwd: values.dir.clone(),
        user: values.user.clone(),
        proxy_env: spec.proxy.as_ref().map(|proxy| pb::ProxyEnv {
            http_proxy: proxy.http.clone(),
            https_proxy: proxy.https.clone(),
            ftp_proxy: proxy.ftp.clone(),
            no_proxy: proxy.no.clone(),
            all_proxy: proxy.all.clone(),
        }),
        extra_hosts: values
            .extra_hosts
            .iter()
            .map(|(host, ip)| pb::HostIp { host: host.clone(), ip: ip.to_string() })
            .collect(),
        hostname: values.hostname.clone(),
        ulimit: values
            .ulimits
            .iter()
            .map(|&(limit, soft, hard)| pb::Ulimit { name: limit.name().to_owned(), soft, hard })
            .collect(),
        cgroup_parent: values.cgroup_parent.clone(),
        remove_mount_stubs_recursive: true,
        valid_exit_codes: values.valid_exit_codes.clone().unwrap_or_default(),
    };
    let mut inputs = Vec::new();
    let mut mounts = bind_mounts(spec, node, context, &mut inputs)?;
    mounts.extend(secret_mounts(spec));
    mounts.extend(spec.ssh.iter().zip(ssh_targets).map(|(ssh, target)| pb::Mount {
        input: pb::EMPTY_INPUT,
        dest: target.into_owned(),
        mount_type: pb::MountType::Ssh.into(),
        ssh_opt: Some(pb::SshOpt {
            id: ssh.id.clone(),
            uid: ssh.uid,
            gid: ssh.gid,
            mode: ssh.mode,
            optional: ssh.optional,
        }),
        ..pb::Mount::default()
    }));
    needed_caps(spec, &mut caps);
    if node.constraints.metadata.resources.is_some() {
        caps.push(caps::EXEC_META_LINUX_RESOURCES);
    }

    let network = match values.network {
        Network::Sandbox => pb::NetMode::Unset,
        Network::Host => pb::NetMode::Host,
        Network::None => pb::NetMode::None,
    };
    let security = match values.security {
        Security::Sandbox => pb::SecurityMode::Sandbox,
        Security::Insecure => pb::SecurityMode::Insecure,
    };
    let op = pb::ExecOp {
        meta: Some(meta),
        mounts,
        network: network.into(),
        security: security.into(),
        secretenv: spec
            .secrets
            .iter()
            .filter_map(|secret| {
                secret.env.as_ref().map(|name| pb::SecretEnv {
                    id: secret.id.clone(),
                    name: name.clone(),
                    optional: secret.optional,
                })
            })
            .collect(),
        cdi_devices: spec
            .devices
            .iter()
            .map(|device| pb::CdiDevice { name: device.name.clone(), optional: device.optional })
            .collect(),
    };
    Ok(Draft { op: pb::op::Op::Exec(op), inputs, platform: Some(platform), caps })
}

/// The environment: what was set, the SSH agent's socket, and a path where the daemon adds none.
fn env(
    spec: &ExecSpec,
    ssh_targets: &[Cow<'_, str>],
    os: &str,
    context: &Context<'_>,
    caps: &mut Vec<&'static str>,
) -> Vec<String> {
    let has = |name: &str| spec.values.env.iter().any(|(key, _)| key == name);
    let mut env: Vec<_> = spec.values.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if let Some(target) = ssh_targets.first()
        && !has("SSH_AUTH_SOCK")
    {
        env.push(format!("SSH_AUTH_SOCK={target}"));
    }
    match context.caps {
        Some(supported) if supported.contains(caps::EXEC_META_SETS_DEFAULT_PATH) => {
            caps.push(caps::EXEC_META_SETS_DEFAULT_PATH);
        }
        Some(_) if os != "windows" && !has("PATH") => env.push(format!("PATH={DEFAULT_PATH}")),
        _ => {}
    }
    env
}

fn bind_mounts(
    spec: &ExecSpec,
    node: &Node,
    context: &Context<'_>,
    inputs: &mut Vec<pb::Input>,
) -> Result<Vec<pb::Mount>> {
    let mut outputs = 0;
    spec.mounts
        .iter()
        .map(|ExecMount { target, input, mount }| {
            let input = match input.and_then(|index| node.inputs.get(index)) {
                Some(_) if matches!(mount.kind, MountKind::Tmpfs { .. }) => {
                    return Err(Error::TmpfsSource(target.clone()));
                }
                Some(output) => wire_index(add_input(inputs, context.input(output))),
                None => pb::EMPTY_INPUT,
            };
            let output = if mount.has_output() {
                outputs += 1;
                outputs - 1
            } else {
                pb::SKIP_OUTPUT
            };
            let mut wire = pb::Mount {
                input,
                selector: mount.selector.clone(),
                dest: target.clone(),
                output,
                readonly: mount.readonly,
                content_cache: match mount.content_cache {
                    ContentCache::Default => pb::MountContentCache::Default,
                    ContentCache::On => pb::MountContentCache::On,
                    ContentCache::Off => pb::MountContentCache::Off,
                }
                .into(),
                ..pb::Mount::default()
            };
            match &mount.kind {
                MountKind::Bind => {}
                MountKind::Cache { id, sharing } => {
                    let sharing = match sharing {
                        CacheSharing::Shared => pb::CacheSharingOpt::Shared,
                        CacheSharing::Private => pb::CacheSharingOpt::Private,
                        CacheSharing::Locked => pb::CacheSharingOpt::Locked,
                    };
                    wire.mount_type = pb::MountType::Cache.into();
                    wire.cache_opt = Some(pb::CacheOpt { id: id.clone(), sharing: sharing.into() });
                }
                MountKind::Tmpfs { size } => {
                    wire.mount_type = pb::MountType::Tmpfs.into();
                    wire.tmpfs_opt = Some(pb::TmpfsOpt { size: *size });
                }
            }
            Ok(wire)
        })
        .collect()
}

fn secret_mounts(spec: &ExecSpec) -> impl Iterator<Item = pb::Mount> {
    spec.secrets.iter().filter_map(|secret| {
        secret.target.as_ref().map(|target| pb::Mount {
            input: pb::EMPTY_INPUT,
            dest: target.clone(),
            mount_type: pb::MountType::Secret.into(),
            secret_opt: Some(pb::SecretOpt {
                id: secret.id.clone(),
                uid: secret.uid,
                gid: secret.gid,
                mode: secret.mode,
                optional: secret.optional,
            }),
            ..pb::Mount::default()
        })
    })
}

fn needed_caps(spec: &ExecSpec, caps: &mut Vec<&'static str>) {
    let values = &spec.values;
    let mut need = |is_needed, cap| {
        if is_needed {
            caps.push(cap);
        }
    };
    need(values.valid_exit_codes.is_some(), caps::EXEC_VALID_EXIT_CODE);
    need(!values.ulimits.is_empty(), caps::EXEC_META_ULIMIT);
    need(values.network != Network::Sandbox, caps::EXEC_META_NETWORK);
    need(values.security == Security::Insecure, caps::EXEC_META_SECURITY);
    need(spec.proxy.is_some(), caps::EXEC_META_PROXY);
    for ExecMount { input, mount, .. } in &spec.mounts {
        need(!mount.selector.is_empty(), caps::EXEC_MOUNT_SELECTOR);
        need(mount.content_cache != ContentCache::Default, caps::EXEC_MOUNT_CONTENT_CACHE);
        match mount.kind {
            MountKind::Cache { .. } => {
                need(true, caps::EXEC_MOUNT_CACHE);
                need(true, caps::EXEC_MOUNT_CACHE_SHARING);
            }
            MountKind::Tmpfs { size } => {
                need(true, caps::EXEC_MOUNT_TMPFS);
                need(size > 0, caps::EXEC_MOUNT_TMPFS_SIZE);
            }
            MountKind::Bind => need(input.is_some(), caps::EXEC_MOUNT_BIND),
        }
    }
    need(!spec.secrets.is_empty(), caps::EXEC_MOUNT_SECRET);
    need(spec.secrets.iter().any(|secret| secret.env.is_some()), caps::EXEC_SECRET_ENV);
    need(!spec.ssh.is_empty(), caps::EXEC_MOUNT_SSH);
    need(!spec.devices.is_empty(), caps::EXEC_META_CDI);
}
