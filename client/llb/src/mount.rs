use crate::State;

/// How builds share a cache directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Many at once use the same directory.
    #[default]
    Shared,
    /// Each user at a time has a directory of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// Whether a mount's content may stand in for its definition in the cache key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentCache {
    /// The daemon decides.
    #[default]
    Default,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A directory of a process besides its root.
///
/// A mount that starts from a tree, is writable and neither a cache nor a tmpfs has a result of its
/// own: [`Exec::mount`](crate::Exec::mount).
#[derive(Clone, Debug)]
pub struct Mount {
    pub(crate) source: State,
    pub(crate) selector: String,
    pub(crate) readonly: bool,
    pub(crate) no_output: bool,
    pub(crate) content_cache: ContentCache,
    pub(crate) kind: MountKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    Bind,
    Cache { id: String, sharing: CacheSharing },
    Tmpfs { size: i64 },
}

impl Mount {
    /// A tree.
    pub fn bind(source: &State) -> Self {
        Self {
            source: source.clone(),
            selector: String::new(),
            readonly: false,
            no_output: false,
            content_cache: ContentCache::Default,
            kind: MountKind::Bind,
        }
    }

    /// An empty directory.
    pub fn scratch() -> Self {
        Self::bind(&crate::scratch())
    }

    /// A directory that outlives the build, known by `id`. It starts empty, or with
    /// [`from`](Self::from) as a copy of a tree.
    pub fn cache(id: &str, sharing: CacheSharing) -> Self {
        Self { kind: MountKind::Cache { id: id.to_owned(), sharing }, ..Self::scratch() }
    }

    /// Memory that is gone after the process, of this many bytes; 0 is the kernel's default.
    pub fn tmpfs(size: i64) -> Self {
        Self { kind: MountKind::Tmpfs { size }, ..Self::scratch() }
    }

    /// The tree to start from.
    #[must_use]
    pub fn from(mut self, source: &State) -> Self {
        self.source = source.clone();
        self
    }

    /// Mounts only this path of the tree.
    #[must_use]
    pub fn selector(mut self, path: &str) -> Self {
        path.clone_into(&mut self.selector);
        self
    }

    /// The process cannot write there.
    #[must_use]
    pub fn readonly(mut self) -> Self {
        self.readonly = true;
        self
    }

    /// What the process writes there is discarded.
    #[must_use]
    pub fn no_output(mut self) -> Self {
        self.no_output = true;
        self
    }

    /// Whether content stands in for definition in the cache key.
    #[must_use]
    pub fn content_cache(mut self, content_cache: ContentCache) -> Self {
        self.content_cache = content_cache;
        self
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.no_output && !self.readonly && self.kind == MountKind::Bind
    }
}

/// A secret of the client for one process, as a file in memory or as an environment variable.
#[derive(Clone, Debug)]
pub struct Secret {
    pub(crate) id: String,
    pub(crate) target: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) optional: bool,
}

impl Secret {
    /// The secret `id` as a file at `target`, readable by root only.
    pub fn file(id: &str, target: &str) -> Self {
        Self {
            id: id.to_owned(),
            target: Some(target.to_owned()),
            env: None,
            uid: 0,
            gid: 0,
            mode: 0o400,
            optional: false,
        }
    }

    /// The secret `id` as the environment variable `name`.
    pub fn env(id: &str, name: &str) -> Self {
        Self { target: None, env: Some(name.to_owned()), ..Self::file(id, "") }
    }

    /// Also as this environment variable.
    #[must_use]
    pub fn and_env(mut self, name: &str) -> Self {
        self.env = Some(name.to_owned());
        self
    }

    /// Owner and permission bits of the file.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32, mode: u32) -> Self {
        (self.uid, self.gid, self.mode) = (uid, gid, mode);
        self
    }

    /// It is no error when the client has no such secret.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// A socket by which a process reaches the client's SSH agent.
#[derive(Clone, Debug)]
pub struct Ssh {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) optional: bool,
}

impl Ssh {
    /// The agent that the client calls `id`; empty is its default one.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), target: String::new(), uid: 0, gid: 0, mode: 0o600, optional: false }
    }

    /// Path of the socket; without it `/run/buildkit/ssh_agent.N`.
    #[must_use]
    pub fn target(mut self, path: &str) -> Self {
        path.clone_into(&mut self.target);
        self
    }

    /// Owner and permission bits of the socket.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32, mode: u32) -> Self {
        (self.uid, self.gid, self.mode) = (uid, gid, mode);
        self
    }

    /// It is no error when the client has no such agent.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// A device by its name in the container device interface.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

impl Device {
    /// A device that must exist.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), optional: false }
    }

    /// It is no error when there is no such device.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}
