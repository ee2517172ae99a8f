//! Forwards SSH agent connections over a session.
//!
//! Protocol: upstream `session/sshforward`. Each connection to a socket in a container is one stream
//! of bytes to the client, which talks to the agent; the daemon never sees a key.
#![forbid(unsafe_code)]

mod service;
mod socket;

pub use service::{BoxConnection, Connection, SshForwarder, SshService};
pub use socket::{AgentSocket, Error, SocketOptions, check_agent};

/// Id of the agent that is meant when none is named.
pub const DEFAULT_ID: &str = "default";

/// Metadata key of the id of the agent that a stream goes to.
pub(crate) const KEY_SSH_ID: &str = "buildkit.ssh.id";

/// Bytes read at a time; well below every peer's message limit.
pub(crate) const CHUNK: usize = 32 << 10;
