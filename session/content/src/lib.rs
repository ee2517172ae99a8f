//! Content stores of a client, served and used over a session.
//!
//! The client attaches a [`ContentService`] with its stores, each under a name: layouts that builds read, directories
//! that images are exported or caches are kept in. The daemon reads and fills one of them with a
//! [`SessionContent`]. The protocol is containerd's content service, with the name of the store in the metadata of each
//! call; both ends work with the original's.
//!
//! Facts of the protocol: upstream `session/content`, containerd `plugins/services/content/contentserver` and
//! `core/content/proxy`.
#![forbid(unsafe_code)]

mod daemon;
mod ingests;
mod service;
mod stream;
mod writer;

pub use daemon::SessionContent;
pub use service::ContentService;

/// Metadata key by which a call names a store.
pub const STORE_ID_HEADER: &str = "buildkit-attachable-store-id";

/// Bytes of a blob in one message.
const CHUNK: usize = 1 << 20;
