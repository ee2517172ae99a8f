//! The process of an exec op: its environment, its limits and the words about its end.

use std::net::IpAddr;

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_executor::{Exit, HostEntry, Meta, NetMode, ResourceLimits, SecurityMode, Ulimit};
use buildkit_session::SessionGroup;
use buildkit_solver_pb as pb;
use buildkit_util_gotext::quoted;
use buildkit_util_system::default_path_env;

use crate::Result;
use crate::domain::{OpServices, failed};
use crate::spec::{ExecSpec, TypedVertex};

/// What the process of a vertex is, without its environment's secrets.
pub(super) fn meta(spec: &ExecSpec, vertex: &TypedVertex, readonly_root: bool) -> Result<Meta> {
    let wire = spec.meta();
    let mut env = wire.env.clone();
    if let Some(proxy) = &wire.proxy_env {
        add_proxies(&mut env, proxy);
    }
    if vertex.platform.os != "windows" && !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(format!("PATH={}", default_path_env(&vertex.platform.os)));
    }
    Ok(Meta {
        args: wire.args.clone(),
        env,
        user: wire.user.clone(),
        cwd: wire.cwd.clone(),
        hostname: wire.hostname.clone(),
        cgroup_parent: wire.cgroup_parent.clone(),
        readonly_root,
        extra_hosts: wire.extra_hosts.iter().map(host).collect::<Result<_>>()?,
        ulimits: wire
            .ulimit
            .iter()
            .map(|limit| Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        // Values that are not known were refused when the definition was loaded.
        network: match spec.op.network() {
            pb::NetMode::Unset => NetMode::Default,
            pb::NetMode::Host => NetMode::Host,
            pb::NetMode::None => NetMode::None,
        },
        security: match spec.op.security() {
            pb::SecurityMode::Sandbox => SecurityMode::Sandbox,
            pb::SecurityMode::Insecure => SecurityMode::Insecure,
        },
        limits: vertex.resources.as_ref().map(limits).unwrap_or_default(),
        remove_mount_stubs_recursive: wire.remove_mount_stubs_recursive,
        tty: false,
        valid_exit_codes: wire.valid_exit_codes.clone(),
    })
}

fn host(wire: &pb::HostIp) -> Result<HostEntry> {
    let ip: IpAddr = wire
        .ip
        .parse()
        .map_err(|_| failed(Kind::InvalidArgument, format!("failed to parse IP {}", wire.ip)))?;
    Ok(HostEntry { host: wire.host.clone(), ip })
}

fn limits(wire: &pb::LinuxResources) -> ResourceLimits {
    let set = |number: i64| (number != 0).then_some(number);
    let positive = |number: u64| (number > 0).then_some(number);
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    ResourceLimits {
        memory: set(wire.memory),
        memory_swap: set(wire.memory_swap),
        cpu_shares: positive(wire.cpu_shares),
        cpu_period: positive(wire.cpu_period),
        cpu_quota: set(wire.cpu_quota),
        cpuset_cpus: text(&wire.cpuset_cpus),
        cpuset_mems: text(&wire.cpuset_mems),
    }
}

/// Both spellings of each variable, as programs disagree on which they read.
fn add_proxies(env: &mut Vec<String>, proxy: &pb::ProxyEnv) {
    for (name, value) in [
        ("HTTP_PROXY", &proxy.http_proxy),
        ("HTTPS_PROXY", &proxy.https_proxy),
        ("FTP_PROXY", &proxy.ftp_proxy),
        ("NO_PROXY", &proxy.no_proxy),
        ("ALL_PROXY", &proxy.all_proxy),
    ] {
        if !value.is_empty() {
            env.push(format!("{name}={value}"));
            env.push(format!("{}={value}", name.to_ascii_lowercase()));
        }
    }
}

/// Secrets of the environment, asked for now: they are in no key and on no disk.
pub(super) async fn secret_env(
    services: &OpServices,
    group: &SessionGroup,
    wanted: &[pb::SecretEnv],
) -> Result<Vec<String>> {
    let mut env = Vec::with_capacity(wanted.len());
    for secret in wanted {
        if secret.id.is_empty() {
            return Err(failed(
                Kind::InvalidArgument,
                format!("secret ID missing for {} environment variable", quoted(&secret.name)),
            ));
        }
        let found = services
            .mounts
            .secret_value(group, &secret.id, secret.optional)
            .await
            .map_err(|error| failed(error.kind(), error.to_string()))?;
        let value = String::from_utf8(found.unwrap_or_default())
            .map_err(|_| failed(Kind::InvalidArgument, format!("secret {} is not valid UTF-8", secret.id)))?;
        env.push(format!("{}={value}", secret.name));
    }
    Ok(env)
}

/// What is said of a process that did not end well.
pub(super) fn exit_text(args: &[String], exit: &Exit) -> String {
    let mut text = format!("{}: exit code: {}", unsuccessful(args), exit.code);
    if exit.oom_killed {
        text.push_str(": cannot allocate memory");
    }
    text
}

/// The beginning of every word about a process that failed.
pub(super) fn unsuccessful(args: &[String]) -> String {
    format!("process {} did not complete successfully", quoted(&args.join(" ")))
}

/// Whether an exit code is one of those that are fine.
pub(super) fn is_success(valid: &[i32], code: i32) -> bool {
    if valid.is_empty() { code == 0 } else { valid.contains(&code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_in_go() {
        assert_eq!(quoted("sh -c \"a\\b\"\n\u{1}ü"), r#""sh -c \"a\\b\"\n\x01ü""#);
        let args = ["false".to_owned()];
        let exit = |oom_killed| Exit { code: 137, signal: None, oom_killed };
        assert_eq!(
            exit_text(&args, &exit(false)),
            "process \"false\" did not complete successfully: exit code: 137"
        );
        assert!(exit_text(&args, &exit(true)).ends_with("exit code: 137: cannot allocate memory"));
    }

    #[test]
    fn both_spellings_of_proxies() {
        let mut env = Vec::new();
        let proxy = pb::ProxyEnv { no_proxy: "x".to_owned(), ..pb::ProxyEnv::default() };
        add_proxies(&mut env, &proxy);
        assert_eq!(env, ["NO_PROXY=x", "no_proxy=x"]);
    }
}
