//! Wire types of the services that a client session offers.
#![forbid(unsafe_code)]

mod raw;

pub use raw::RawCodec;

/// Registry credentials: the `Auth` service, which shares its protobuf package with [`filesync`].
pub mod auth {
    pub use crate::filesync::{
        CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
        GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
        VerifyTokenAuthorityResponse, auth_client, auth_server,
    };
}

/// Files to and from the client: package `moby.filesync.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod filesync {
    include!("generated/filesync.rs");
}

/// The `FileSend` service with its messages left encoded.
///
/// Its stream carries `fsutil.types.Packet` when the target is a directory and
/// [`filesync::BytesMessage`] when it is a file; which of them, the metadata of the call tell.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod filesend {
    include!("generated/filesend.rs");
}

/// Secrets: package `moby.buildkit.secrets.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod secrets {
    include!("generated/secrets.rs");
}

/// SSH agents: package `moby.sshforward.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod sshforward {
    include!("generated/sshforward.rs");
}

/// Streams that the daemon fetches: package `moby.upload.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod upload {
    include!("generated/upload.rs");
}

/// Exporters chosen by the client: package `moby.exporter.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod exporter {
    include!("generated/exporter.rs");
}

/// Source decisions made by the client: package `moby.buildkit.v1.sourcepolicy.policysession`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod policysession {
    include!("generated/policysession.rs");
}

/// Blobs: package `containerd.services.content.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod content {
    include!("generated/content.rs");
}
