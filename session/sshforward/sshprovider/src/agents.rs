use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_session_sshforward::{BoxConnection, DEFAULT_ID, SshForwarder};
use tokio::net::UnixStream;

use crate::filter;

/// Names the socket of the user's own agent.
const AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// An agent that builds may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What builds call it; empty is `default`.
    pub id: String,
    /// Its socket; none is the user's own agent.
    pub paths: Vec<PathBuf>,
    /// Whether bytes are passed on as they are.
    pub raw: bool,
}

/// Why an agent cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two agents have the same id.
    #[error("duplicate agent ID {0:?}")]
    Duplicate(String),
    /// The user has no agent.
    #[error("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")]
    NoSocket,
    /// A path cannot be looked at.
    #[error("failed to open {path}: {source}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More than one socket for one agent.
    #[error("only single socket allowed")]
    SeveralSockets,
    /// A raw connection to something else than a socket.
    #[error("raw mode only supported with socket paths")]
    RawKey,
    /// A key where only sockets can be offered.
    #[error("Key `{0}` cannot be loaded: add it to an agent with `ssh-add` and name the agent's socket")]
    Key(PathBuf),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Duplicate(_) | Self::SeveralSockets | Self::RawKey => Kind::InvalidArgument,
            Self::NoSocket => Kind::FailedPrecondition,
            Self::Open { source, .. } => Kind::of_io(source),
            Self::Key(_) => Kind::Unimplemented,
        }
    }
}

/// Agents of this machine, by id.
#[derive(Debug)]
pub struct Agents {
    sockets: BTreeMap<String, Socket>,
}

#[derive(Debug)]
struct Socket {
    path: PathBuf,
    raw: bool,
}

impl Agents {
    /// Checks that the agents are there; `variable` reads the environment.
    ///
    /// # Errors
    /// When one of them cannot be offered.
    pub fn new(
        agents: impl IntoIterator<Item = Agent>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let mut sockets = BTreeMap::new();
        for Agent { id, mut paths, raw } in agents {
            let id = if id.is_empty() { DEFAULT_ID.to_owned() } else { id };
            if paths.is_empty() {
                let own = variable(AUTH_SOCK).filter(|path| !path.is_empty());
                paths.push(own.ok_or(Error::NoSocket)?.into());
            }
            for path in &paths {
                if !is_socket(path)? {
                    return Err(if raw { Error::RawKey } else { Error::Key(path.clone()) });
                }
            }
            let [path] = <[PathBuf; 1]>::try_from(paths).map_err(|_| Error::SeveralSockets)?;
            if sockets.insert(id.clone(), Socket { path, raw }).is_some() {
                return Err(Error::Duplicate(id));
            }
        }
        Ok(Self { sockets })
    }
}

fn is_socket(path: &Path) -> Result<bool, Error> {
    let metadata = fs_err::metadata(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    Ok(metadata.file_type().is_socket())
}

#[async_trait]
impl SshForwarder for Agents {
    fn has(&self, id: &str) -> bool {
        self.sockets.contains_key(id)
    }

    async fn dial(&self, id: &str) -> Result<BoxConnection, String> {
        let socket = self.sockets.get(id).ok_or_else(|| format!("unset ssh forward key {id}"))?;
        let stream = UnixStream::connect(&socket.path)
            .await
            .map_err(|error| format!("failed to connect to {}: {error}", socket.path.display()))?;
        if socket.raw {
            return Ok(Box::new(stream));
        }
        Ok(Box::new(filter::read_only(stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(id: &str, paths: &[&Path], raw: bool) -> Agent {
        Agent { id: id.to_owned(), paths: paths.iter().map(|p| p.to_path_buf()).collect(), raw }
    }

    #[test]
    fn what_is_offered() {
        let dir = tempfile::tempdir().expect("a directory");
        let (socket, key) = (dir.path().join("s"), dir.path().join("k"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("listens");
        fs_err::write(&key, "key").expect("writes");
        let own = socket.display().to_string();
        let with = |agents: Vec<Agent>| Agents::new(agents, |name| (name == AUTH_SOCK).then(|| own.clone()));
        let agents = with(vec![agent("", &[], false), agent("r", &[&socket], true)]).expect("fits");
        assert!(agents.has("default") && agents.has("r") && !agents.has("x"));
        for (bad, expect) in [
            (agent("a", &[&socket, &socket], false), "only single socket allowed"),
            (agent("a", &[&key], true), "raw mode only supported with socket paths"),
            (agent("a", &[&key], false), "cannot be loaded"),
            (agent("a", &[Path::new("/nowhere")], false), "failed to open /nowhere"),
        ] {
            let error = with(vec![bad]).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
        let twice = with(vec![agent("a", &[], false), agent("a", &[], false)]);
        assert!(matches!(twice, Err(Error::Duplicate(_))));
        let none = Agents::new([agent("a", &[], false)], |_| None);
        assert!(matches!(none, Err(Error::NoSocket)));
    }
}
