//! Client sessions: the tunnel in both roles, lookup, groups and health.
//!
//! A session is one HTTP/2 connection inside a byte stream with the roles turned round: the client
//! that opened it runs the gRPC *server* ([`SessionServer`]) with the services that it lends to its
//! builds, and the daemon is the gRPC *client* ([`SessionCaller`]). The daemon's [`SessionManager`]
//! finds a session by its id and ends it when its health checks fail. What the byte stream is made
//! of does not matter here; see `session/grpchijack` for the one of the control API.
//!
//! Facts of the protocol: upstream `session/session.go`, `session/grpc.go`, `session/manager.go`.
#![forbid(unsafe_code)]

mod caller;
mod health;
mod manager;
mod server;

pub use caller::{Headers, SessionCaller, method_url};
pub use health::HealthPolicy;
pub use manager::{Error, LOOKUP_WAIT, SessionGroup, SessionManager};
pub use server::SessionServer;

/// Largest gRPC message and header list on any connection, in bytes (upstream's limit).
pub const MAX_MESSAGE_SIZE: usize = 16 << 20;

/// Flow control window of one stream in a tunnel, in bytes.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// Flow control window of a connection, in bytes: streams are limited, connections are not.
///
/// The h2 library ends a connection on which too many small frames wait to be read, where "too many"
/// is a share of this window. File transfers are streams of very small messages, so with a window of
/// a few megabytes a receiver that is slow for a moment loses its session; with this one, the stream's
/// own window stops the sender long before.
pub const CONNECTION_WINDOW: u32 = 1 << 30;
