use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::process::{Process, start};
use crate::{Error, Result, Tls};

/// A byte stream to a daemon.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any byte stream to a daemon.
pub type BoxStream = Box<dyn Stream>;

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    host: String,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Unix(PathBuf),
    Tcp(String),
    /// A program whose standard streams are the connection.
    Command(Process),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Parses `unix://PATH`, `tcp://HOST:PORT`, `docker-container://NAME[?context=]`,
    /// `podman-container://NAME`, `nerdctl-container://NAME[?namespace=]`,
    /// `kube-pod://POD[?context=&namespace=&container=]` or `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    fn from_str(text: &str) -> Result<Self> {
        let url = Url::parse(text)?;
        let target = match url.scheme {
            "unix" => Target::Unix(PathBuf::from(format!("{}{}", url.authority, url.path))),
            "tcp" => {
                if url.host.is_empty() {
                    return Err(url.error("it lacks a host"));
                }
                Target::Tcp(url.authority.to_owned())
            }
            "docker-container" => Target::Command(docker(&url)?),
            "podman-container" => Target::Command(podman(&url)?),
            "nerdctl-container" => Target::Command(nerdctl(&url)?),
            "kube-pod" => Target::Command(kube_pod(&url)?),
            "ssh" => Target::Command(ssh(&url)?),
            other => return Err(url.error(&format!("scheme `{other}` is not supported"))),
        };
        Ok(Self { text: text.to_owned(), host: url.host.to_owned(), target })
    }
}

impl Address {
    /// The host, which a daemon's certificate must name; empty for sockets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What requests name as their target.
    pub fn authority(&self) -> &str {
        match &self.target {
            Target::Tcp(authority) => authority,
            Target::Unix(_) | Target::Command(_) => "localhost",
        }
    }

    /// The path of a socket of this machine.
    pub fn socket(&self) -> Option<&std::path::Path> {
        match &self.target {
            Target::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// Opens a stream, encrypted when there are settings for that.
    ///
    /// # Errors
    /// When nobody answers there, or who answers is not the one whom the settings expect.
    pub async fn connect(&self, tls: Option<&Tls>) -> Result<BoxStream> {
        let error = |source| Error::Connect { address: self.text.clone(), source };
        let stream: BoxStream = match &self.target {
            Target::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(error)?),
            Target::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await.map_err(error)?;
                stream.set_nodelay(true).map_err(error)?;
                Box::new(stream)
            }
            Target::Command(process) => Box::new(start(process)?),
        };
        match tls {
            Some(tls) => tls.connect(stream, &self.host).await.map_err(error),
            None => Ok(stream),
        }
    }
}

/// The parts of an address.
struct Url<'a> {
    text: &'a str,
    scheme: &'a str,
    authority: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let malformed = |reason: &str| Error::Address { address: text.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| malformed("it lacks a scheme, such as `unix://`"))?;
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        if !fragment.is_empty() {
            return Err(malformed("it has a fragment"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = match host_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match host_port.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host_port, None),
            },
        };
        Ok(Self { text, scheme, authority, user, host, port, path, query })
    }

    fn error(&self, reason: &str) -> Error {
        Error::Address { address: self.text.to_owned(), reason: reason.to_owned() }
    }

    fn query(&self, key: &str) -> &'a str {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(known, _)| *known == key).map_or("", |(_, value)| value)
    }

    fn named(&self, what: &str) -> Result<&'a str> {
        if self.host.is_empty() {
            return Err(self.error(&format!("url lacks {what} name")));
        }
        // A name that reads as an option of the program that gets it is none.
        if self.host.starts_with('-') {
            return Err(self.error(&format!("unsupported {what} name: {:?}", self.host)));
        }
        Ok(self.host)
    }
}

const DIAL: [&str; 2] = ["buildctl", "dial-stdio"];

fn docker(url: &Url<'_>) -> Result<Process> {
    let name = url.named("container")?;
    let mut process = Process::new("docker");
    let context = url.query("context");
    if !context.is_empty() {
        process.arg(format!("--context={context}"));
    }
    Ok(process.args(["exec", "-i", name]).args(DIAL))
}

fn podman(url: &Url<'_>) -> Result<Process> {
    let name = url.named("container")?;
    Ok(Process::new("podman").args(["exec", "-i", name]).args(DIAL))
}

fn nerdctl(url: &Url<'_>) -> Result<Process> {
    let name = url.named("container")?;
    let mut process = Process::new("nerdctl").args(["exec"]);
    let namespace = url.query("namespace");
    if !namespace.is_empty() {
        process = process.args(["--namespace", namespace]);
    }
    Ok(process.args(["-i", name]).args(DIAL))
}

fn kube_pod(url: &Url<'_>) -> Result<Process> {
    let is_identifier = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| matches!(b, b'-' | b'.' | b'a'..=b'z' | b'0'..=b'9'))
    };
    let pod = url.named("pod")?;
    let (namespace, container) = (url.query("namespace"), url.query("container"));
    for (what, name) in [("pod", pod), ("namespace", namespace), ("container", container)] {
        if !name.is_empty() && !is_identifier(name) {
            return Err(url.error(&format!("unsupported {what} name: {name:?}")));
        }
    }
    let mut process = Process::new("kubectl");
    process.arg(format!("--context={}", url.query("context")));
    process.arg(format!("--namespace={namespace}"));
    process.arg("exec".to_owned());
    process.arg(format!("--container={container}"));
    Ok(process.args(["-i", pod, "--"]).args(DIAL))
}

fn ssh(url: &Url<'_>) -> Result<Process> {
    if url.host.is_empty() {
        return Err(url.error("no host specified"));
    }
    if !url.query.is_empty() {
        return Err(url.error(&format!("extra query after the host: {:?}", url.query)));
    }
    let mut process = Process::new("ssh");
    if let Some(user) = url.user {
        if user.contains(':') {
            return Err(url.error("plain-text password is not supported"));
        }
        process = process.args(["-l", user]);
    }
    if let Some(port) = url.port {
        process = process.args(["-p", port]);
    }
    process = process.args(["--", url.host, "buildctl"]);
    if !url.path.is_empty() {
        process = process.args(["--addr"]);
        process.arg(format!("unix://{}", url.path));
    }
    Ok(process.args(["dial-stdio"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> String {
        match text.parse::<Address>() {
            Ok(Address { target: Target::Command(process), .. }) => process.to_string(),
            Ok(address) => format!("{:?} at {}", address.target, address.authority()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses() {
        for (text, expect) in [
            ("unix:///run/b.sock", "Unix(\"/run/b.sock\") at localhost"),
            ("tcp://h:1234", "Tcp(\"h:1234\") at h:1234"),
            ("docker-container://c", "docker exec -i c buildctl dial-stdio"),
            ("docker-container://c?context=x", "docker --context=x exec -i c buildctl dial-stdio"),
            ("podman-container://c", "podman exec -i c buildctl dial-stdio"),
            ("nerdctl-container://c?namespace=n", "nerdctl exec --namespace n -i c buildctl dial-stdio"),
            (
                "kube-pod://p?context=C&namespace=n&container=c",
                "kubectl --context=C --namespace=n exec --container=c -i p -- buildctl dial-stdio",
            ),
            ("ssh://h", "ssh -- h buildctl dial-stdio"),
            ("ssh://u@h:22/run/s", "ssh -l u -p 22 -- h buildctl --addr unix:///run/s dial-stdio"),
            ("kube-pod://P", "Invalid address `kube-pod://P`: unsupported pod name: \"P\""),
            ("docker-container://", "Invalid address `docker-container://`: url lacks container name"),
            (
                "docker-container://-x",
                "Invalid address `docker-container://-x`: unsupported container name: \"-x\"",
            ),
            ("ssh://u:p@h", "Invalid address `ssh://u:p@h`: plain-text password is not supported"),
            ("foo://x", "Invalid address `foo://x`: scheme `foo` is not supported"),
            ("/run/x", "Invalid address `/run/x`: it lacks a scheme, such as `unix://`"),
        ] {
            assert_eq!(command(text), expect, "{text}");
        }
    }
}
