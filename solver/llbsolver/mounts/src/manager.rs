use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use buildkit_cache::{CacheManager, ImmutableRef};
use buildkit_session::{SessionCaller, SessionGroup, SessionManager};
use buildkit_session_secrets::get_secret;
use buildkit_session_sshforward::{AgentSocket, SocketOptions, check_agent};
use buildkit_util_appcontext::spawn_blocking;
use fs_err as fs;

use crate::Error;
use crate::caches::{CacheMount, Caches, Request, Sharing};
use crate::host::{Access, HostMount, SecretStore};

/// Sockets have paths of at most 107 bytes; so many are for the names below the directory.
const LONGEST_SOCKET_DIRECTORY: usize = 70;

/// Prepares mounts. Clones are the same manager.
#[derive(Clone)]
pub struct MountManager {
    inner: Arc<Inner>,
}

struct Inner {
    sessions: SessionManager,
    caches: Arc<Caches>,
    secrets: Arc<SecretStore>,
    sockets: PathBuf,
}

/// A secret in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretRequest {
    /// What the client calls it.
    pub id: String,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Permissions of the file.
    pub mode: u32,
    /// Whether the step runs without it.
    pub optional: bool,
}

/// An SSH agent behind a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentRequest {
    /// What the client calls it; empty is `default`.
    pub id: String,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// Permissions of the socket.
    pub mode: u32,
    /// Whether the step runs without it.
    pub optional: bool,
}

impl MountManager {
    /// A manager that keeps secrets (in a tmpfs) and sockets below `root`, a directory of its own.
    ///
    /// # Errors
    /// When the tmpfs cannot be mounted.
    pub async fn open(cache: CacheManager, sessions: SessionManager, root: PathBuf) -> Result<Self, Error> {
        let action = "prepare the directory for mounts";
        let opened = spawn_blocking(move || {
            let mut sockets = root.join("ssh");
            if sockets.as_os_str().len() > LONGEST_SOCKET_DIRECTORY {
                sockets = std::env::temp_dir();
            } else {
                // What an earlier daemon left is of no use to anyone.
                let _ = fs::remove_dir_all(&sockets);
                fs::create_dir_all(&sockets).map_err(|source| Error::Io { action, source })?;
            }
            Ok::<_, Error>((SecretStore::open(root.join("secrets"))?, sockets))
        });
        let (secrets, sockets) = opened.await.map_err(|source| Error::Interrupted { action, source })??;
        let (caches, secrets) = (Arc::new(Caches::new(cache)), Arc::new(secrets));
        Ok(Self { inner: Arc::new(Inner { sessions, caches, secrets, sockets }) })
    }

    /// The mounts of one step that people know as `name`, for whom these sessions serve.
    pub fn exec(&self, name: &str, sessions: SessionGroup) -> ExecMounts {
        ExecMounts {
            inner: self.inner.clone(),
            sessions,
            name: name.to_owned(),
            caches: tokio::sync::Mutex::default(),
        }
    }

    /// Makes steps that start later begin with empty directories for cache mounts of this id, on
    /// whatever tree they are based. Those that run go on with theirs.
    pub fn prune_cache_mounts(&self, id: &str) {
        self.inner.caches.prune(id);
    }

    /// The value of a secret; `None` if it is optional and nobody has it.
    ///
    /// # Errors
    /// [`Error::Secret`], [`Error::Session`].
    pub async fn secret_value(
        &self,
        sessions: &SessionGroup,
        id: &str,
        optional: bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        let ask = async |caller: SessionCaller| get_secret(&caller, id).await.map_err(Error::from);
        match self.inner.sessions.any(sessions, ask).await {
            Ok(value) => Ok(Some(value)),
            Err(Error::Secret(buildkit_session_secrets::Error::NotFound(_))) if optional => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A cache directory that a step asks for.
#[derive(Clone, Copy, Debug)]
pub struct CacheRequest<'a> {
    /// What it is found by.
    pub id: &'a str,
    /// Where it is mounted; for people.
    pub dest: &'a str,
    /// The tree that it starts as a copy of.
    pub base: Option<&'a ImmutableRef>,
    /// How steps share it.
    pub sharing: Sharing,
}

/// The mounts of one step. Values outlive this.
pub struct ExecMounts {
    inner: Arc<Inner>,
    sessions: SessionGroup,
    name: String,
    /// Cache directories of this step by key: within a step, the same key is the same directory. A gate:
    /// mounts of one step ask one after the other, so that none is taken twice.
    caches: tokio::sync::Mutex<HashMap<String, CacheMount>>,
}

impl ExecMounts {
    /// Takes all cache directories of a step at once, in an order that is the same for all steps, so
    /// that two steps that lock the same ones never wait for each other. [`cache`](Self::cache) gives
    /// them out afterwards. They are held as long as this.
    ///
    /// # Errors
    /// As [`cache`](Self::cache).
    pub async fn reserve(&self, requests: &[CacheRequest<'_>]) -> Result<(), Error> {
        let mut ordered = requests.to_vec();
        ordered.sort_by_key(|request| (request.id, request.base.map(|base| base.id().clone())));
        for CacheRequest { id, dest, base, sharing } in ordered {
            self.cache(id, dest, base, sharing).await?;
        }
        Ok(())
    }

    /// The cache directory `id` for the mount at `dest`, which starts as a copy of `base`. Waits
    /// while another step has a locked one; dropping the future ends the wait.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub async fn cache(
        &self,
        id: &str,
        dest: &str,
        base: Option<&ImmutableRef>,
        sharing: Sharing,
    ) -> Result<CacheMount, Error> {
        let mut description = format!("cached mount {dest} from {}", self.name);
        if id != dest {
            description.push_str(&format!(" with id {id:?}"));
        }
        let request = Request { id, base, sharing, description };
        let key = request.key();
        let mut caches = self.caches.lock().await;
        if let Some(mount) = caches.get(&key) {
            return Ok(mount.clone());
        }
        let mount = self.inner.caches.get(&request).await?;
        caches.insert(key, mount.clone());
        Ok(mount)
    }

    /// A file with a secret; `None` if it is optional and nobody has it.
    ///
    /// # Errors
    /// [`Error::Invalid`] without an id, [`Error::Secret`], [`Error::Session`], [`Error::Io`].
    pub async fn secret(&self, request: &SecretRequest) -> Result<Option<HostMount>, Error> {
        if request.id.is_empty() {
            return Err(Error::Invalid("secret ID missing from mount options".to_owned()));
        }
        let manager = MountManager { inner: self.inner.clone() };
        let Some(value) = manager.secret_value(&self.sessions, &request.id, request.optional).await? else {
            return Ok(None);
        };
        let access = Access { uid: request.uid, gid: request.gid, mode: request.mode };
        let secrets = self.inner.secrets.clone();
        let written = spawn_blocking(move || secrets.write(&value, access)).await;
        let secret = written.map_err(|source| Error::Interrupted { action: "write a secret", source })??;
        Ok(Some(HostMount::secret(secret)))
    }

    /// A socket with an SSH agent behind it; `None` if it is optional and nobody has one. The socket
    /// stays with the session that had the agent first.
    ///
    /// # Errors
    /// [`Error::NoAgent`], [`Error::Agent`], [`Error::Session`].
    pub async fn agent(&self, request: &AgentRequest) -> Result<Option<HostMount>, Error> {
        use buildkit_session_sshforward::Error as AgentError;
        let id = request.id.as_str();
        let ask = async |caller: SessionCaller| match check_agent(&caller, id).await {
            Ok(()) => Ok(Some(caller)),
            Err(AgentError::NotFound(_) | AgentError::Unsupported) if request.optional => Ok(None),
            Err(source @ AgentError::Unsupported) => Err(Error::NoAgent { id: id.to_owned(), source }),
            Err(error) => Err(Error::Agent(error)),
        };
        let Some(caller) = self.inner.sessions.any(&self.sessions, ask).await? else { return Ok(None) };
        let options = SocketOptions { uid: request.uid, gid: request.gid, mode: request.mode & 0o777 };
        let socket = AgentSocket::listen(caller, id, &self.inner.sockets, options)?;
        Ok(Some(HostMount::agent(socket)))
    }
}
