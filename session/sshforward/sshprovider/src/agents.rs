use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_session_sshforward::{BoxConnection, DEFAULT_ID, SshForwarder};
use tokio::net::UnixStream;

use crate::filter;
use crate::key::Key;
use crate::keyring::Keyring;

/// Names the socket of the user's own agent.
const AUTH_SOCK: &str = "SSH_AUTH_SOCK";
/// Bytes that are read of a key's file.
const MAX_KEY: u64 = 100 * 1024;
/// How long an agent may take to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// An agent that builds may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What builds call it; empty is `default`.
    pub id: String,
    /// Its socket, or private keys that make an agent; none is the user's own agent.
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
    /// Keys and a socket for one agent.
    #[error("invalid combination of keys and sockets")]
    KeysAndSocket,
    /// A file that cannot be used as a key.
    #[error("failed to parse {path}: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Duplicate(_)
            | Self::SeveralSockets
            | Self::RawKey
            | Self::KeysAndSocket
            | Self::Key { .. } => Kind::InvalidArgument,
            Self::NoSocket => Kind::FailedPrecondition,
            Self::Open { source, .. } => Kind::of_io(source),
        }
    }
}

/// Agents of this machine, by id.
#[derive(Debug)]
pub struct Agents {
    agents: BTreeMap<String, Source>,
}

#[derive(Debug)]
enum Source {
    /// An agent that runs, all of it.
    Raw(PathBuf),
    /// An agent that runs.
    Socket(PathBuf),
    /// Keys in this process.
    Keys(Arc<Keyring>),
}

impl Agents {
    /// Checks that the agents are there and reads keys; `variable` reads the environment.
    ///
    /// # Errors
    /// When one of them cannot be offered.
    pub fn new(
        agents: impl IntoIterator<Item = Agent>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let mut sources = BTreeMap::new();
        for Agent { id, mut paths, raw } in agents {
            let id = if id.is_empty() { DEFAULT_ID.to_owned() } else { id };
            if paths.iter().all(|path| path.as_os_str().is_empty()) && paths.len() < 2 {
                let own = variable(AUTH_SOCK).filter(|path| !path.is_empty());
                paths = vec![own.ok_or(Error::NoSocket)?.into()];
            }
            let source = Source::new(&paths, raw)?;
            if sources.insert(id.clone(), source).is_some() {
                return Err(Error::Duplicate(id));
            }
        }
        Ok(Self { agents: sources })
    }
}

impl Source {
    fn new(paths: &[PathBuf], raw: bool) -> Result<Self, Error> {
        let (mut socket, mut keys) = (None, Vec::new());
        for path in paths {
            if socket.is_some() {
                return Err(Error::SeveralSockets);
            }
            if is_socket(path)? {
                socket = Some(path);
            } else if raw {
                return Err(Error::RawKey);
            } else {
                keys.push(read_key(path)?);
            }
        }
        match socket {
            Some(_) if !keys.is_empty() => Err(Error::KeysAndSocket),
            Some(path) if raw => Ok(Self::Raw(path.clone())),
            Some(path) => Ok(Self::Socket(path.clone())),
            None => Ok(Self::Keys(Arc::new(Keyring::new(keys)))),
        }
    }
}

fn read_key(path: &Path) -> Result<Key, Error> {
    let open = |source| Error::Open { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = fs_err::File::open(path).map_err(open)?;
    file.take(MAX_KEY).read_to_end(&mut text).map_err(open)?;
    Key::parse(&text).map_err(|problem| Error::Key { path: path.to_owned(), problem: problem.to_string() })
}

fn is_socket(path: &Path) -> Result<bool, Error> {
    let metadata = fs_err::metadata(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    Ok(metadata.file_type().is_socket())
}

#[async_trait]
impl SshForwarder for Agents {
    fn has(&self, id: &str) -> bool {
        self.agents.contains_key(id)
    }

    async fn dial(&self, id: &str) -> Result<BoxConnection, String> {
        match self.agents.get(id).ok_or_else(|| format!("unset ssh forward key {id}"))? {
            Source::Raw(path) => Ok(Box::new(dial(path).await?)),
            Source::Socket(path) => Ok(Box::new(filter::read_only(dial(path).await?))),
            Source::Keys(keys) => Ok(Box::new(filter::connect(keys.clone()))),
        }
    }
}

async fn dial(path: &Path) -> Result<UnixStream, String> {
    let failed = |problem: String| format!("failed to connect to {}: {problem}", path.display());
    match tokio::time::timeout(DIAL_TIMEOUT, UnixStream::connect(path)).await {
        Ok(stream) => stream.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed("i/o timeout".to_owned())),
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
            (agent("a", &[&key], false), "k: not a private key"),
            (agent("a", &[&socket, &key], false), "only single socket allowed"),
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
