//! Agents that are forwarded over a session, and OpenSSH's programs to use them.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use buildkit_session_sshforward::{AgentSocket, SocketOptions, SshService};
use buildkit_session_sshforward_sshprovider::{Agent, Agents};
use buildkit_session_testutil::SessionPair;
use tokio::process::Command;

pub(crate) fn agent(id: &str, paths: &[&Path], raw: bool) -> Agent {
    Agent { id: id.to_owned(), paths: paths.iter().map(|path| path.to_path_buf()).collect(), raw }
}

/// Opens a session that offers an agent.
pub(crate) async fn offer(agents: impl IntoIterator<Item = Agent>) -> SessionPair {
    let agents = Arc::new(Agents::new(agents, |_| None).expect("agents are there"));
    SessionPair::open(|session| session.allow(SshService::server(agents), SshService::METHODS)).await
}

/// A socket as containers see it.
pub(crate) fn listen(pair: &SessionPair, id: &str, dir: &Path) -> AgentSocket {
    let options = SocketOptions { uid: 0, gid: 0, mode: 0o600 };
    AgentSocket::listen(pair.caller().clone(), id, dir, options).expect("the socket is made")
}

/// Runs a program of OpenSSH with an agent's socket.
pub(crate) async fn ssh(socket: &Path, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env("SSH_AUTH_SOCK", socket).stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.expect("OpenSSH is installed")
}

/// The same, and it succeeds; gives what it printed.
pub(crate) async fn ssh_ok(socket: &Path, program: &str, args: &[&str]) -> String {
    let output = ssh(socket, program, args).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Makes a key with `ssh-keygen`; the public key is beside it.
pub(crate) async fn keygen(dir: &Path, name: &str, args: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let file = path.display().to_string();
    let all: Vec<&str> = ["-q", "-f", &file, "-C", name].into_iter().chain(args.iter().copied()).collect();
    ssh_ok(Path::new(""), "ssh-keygen", &all).await;
    path
}
