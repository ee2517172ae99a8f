use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use buildkit_session::SessionManager;

/// How one registry is reached: a `[registry."HOST"]` of the daemon's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Hosts, with or without a path, that are asked before the registry itself when something is pulled.
    pub mirrors: Vec<String>,
    /// Plain HTTP; without it registries of this machine alone are asked so.
    pub plain_http: Option<bool>,
    /// Certificates are not checked; with `plain_http`, HTTP is spoken where HTTPS is not.
    pub insecure: Option<bool>,
    /// Files of authorities that are trusted besides those of the system.
    pub root_cas: Vec<PathBuf>,
    /// Client certificates.
    pub key_pairs: Vec<KeyPair>,
    /// Directories of authorities (`*.crt`) and client certificates (`*.cert` with `*.key`).
    pub tls_config_dirs: Vec<PathBuf>,
}

/// Files of a client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key.
    pub key: PathBuf,
    /// The certificate, with those that lead to its authority.
    pub cert: PathBuf,
}

/// What registries are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// To give.
    Pull,
    /// To give and to take.
    Push,
}

impl Access {
    /// Actions of the scope of a token.
    pub(crate) fn actions(self) -> &'static [&'static str] {
        match self {
            Self::Pull => &["pull"],
            Self::Push => &["pull", "push"],
        }
    }
}

/// How long and how often registries are asked.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Tries of one request.
    pub tries: u32,
    /// Time to connect.
    pub connect: Duration,
    /// Time until an answer begins.
    pub answer: Duration,
    /// Time in which nothing comes of a body that was begun, or nothing can be sent of one.
    pub stall: Duration,
    /// Time for a request with all its tries. Blobs have more, by their size.
    pub total: Duration,
    /// Wait before the second try; each further one waits twice as long, with a share that is random.
    pub backoff: Duration,
    /// Longest wait before a try, also when a registry asks for a longer one.
    pub max_backoff: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tries: 5,
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            total: Duration::from_secs(300),
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
        }
    }
}

/// What [`crate::Registries`] are made of.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Registries by host, mirrors among them.
    pub registries: BTreeMap<String, RegistryConfig>,
    /// Transfers of blobs from or to one registry at a time, in each direction; manifests have a lane
    /// more. 4 is usual.
    pub max_concurrency: usize,
    /// Clients that give credentials.
    pub sessions: SessionManager,
    /// What requests say of the program that sends them.
    pub user_agent: String,
    /// How long and how often registries are asked.
    pub limits: Limits,
}

impl RegistryOptions {
    /// No special registries, 4 transfers at a time.
    pub fn new(sessions: SessionManager, user_agent: impl Into<String>) -> Self {
        Self {
            registries: BTreeMap::new(),
            max_concurrency: 4,
            sessions,
            user_agent: user_agent.into(),
            limits: Limits::default(),
        }
    }
}
