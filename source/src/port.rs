use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::ImmutableRef;
use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse};
use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_session::{SessionGroup, SessionManager};
use buildkit_util_ocispec::Platform;
use buildkit_util_progress::Writer;
use tokio_util::sync::CancellationToken;

/// What a source op names: `scheme://reference` with attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// The part before `://`.
    pub scheme: String,
    /// The part after it.
    pub reference: String,
    /// Attributes of the op (`solver/pb` names the keys).
    pub attrs: BTreeMap<String, String>,
    /// What the content is to run on, of sources that come for several.
    pub platform: Option<Platform>,
}

/// What a source works with on behalf of the builds that want it.
#[derive(Clone)]
pub struct SourceContext {
    /// Open sessions.
    pub sessions: SessionManager,
    /// Those that may be asked.
    pub group: SessionGroup,
    /// Progress of the step.
    pub progress: Writer,
    /// Fires when nobody wants the result any more.
    pub cancelled: CancellationToken,
}

/// One of the keys of a source's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceKey {
    /// Sources of equal keys have equal content. Starts with `session:` when it is only good for one
    /// build, which then is matched by content only.
    pub key: String,
    /// The exact version, such as a digest or commit; empty when there is none.
    pub pin: String,
    /// Whether there are no more keys.
    pub done: bool,
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identifier or an attribute makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// No source of this scheme.
    #[error("unknown scheme {0}: not found")]
    UnknownScheme(String),
    /// This build of the daemon does not do that.
    #[error("{0}")]
    Unimplemented(String),
    /// The client that has it said this.
    #[error("{message}")]
    Client {
        /// Whose fault it is.
        kind: Kind,
        /// What it said.
        message: String,
    },
    /// Nobody wants it any more.
    #[error("Source was cancelled")]
    Cancelled,
    /// Something below failed.
    #[error("{action}: {source}")]
    Other {
        /// What was attempted, on what.
        action: String,
        /// Whose fault it is.
        kind: Kind,
        /// Why it failed.
        source: BoxError,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::NotFound(_) => Kind::NotFound,
            Self::UnknownScheme(_) | Self::Unimplemented(_) => Kind::Unimplemented,
            Self::Cancelled => Kind::Cancelled,
            Self::Client { kind, .. } | Self::Other { kind, .. } => *kind,
        }
    }
}

/// A kind of source. Implementations are registered in the daemon's `main`.
pub trait Source: Send + Sync + 'static {
    /// Schemes that it serves.
    fn schemes(&self) -> &[&'static str];

    /// Checks an identifier. No I/O.
    ///
    /// # Errors
    /// When it makes no sense.
    fn resolve(&self, identifier: &Identifier) -> Result<Arc<dyn SourceInstance>, Error>;

    /// The reference in the form that policies know it by: of what can be written in several ways, always the same.
    /// `None` leaves it as it is, as does one that makes no sense.
    fn canonical(&self, scheme: &str, reference: &str) -> Option<String> {
        let _ = (scheme, reference);
        None
    }
}

/// One named thing of a source.
#[async_trait]
pub trait SourceInstance: Send + Sync + 'static {
    /// The `index`-th key, asked for in order from 0 until one is `done`. May ask the session.
    async fn cache_key(&self, cx: &SourceContext, index: usize) -> Result<SourceKey, Error>;

    /// The content; `None` is an empty tree. Called after the keys were asked for.
    async fn snapshot(&self, cx: &SourceContext) -> Result<Option<ImmutableRef>, Error>;

    /// What is known without the content; nothing, as of a client's directory, is an answer too. May ask the
    /// session.
    async fn metadata(&self, cx: &SourceContext, request: &MetaRequest) -> Result<MetaResponse, Error> {
        let _ = (cx, request);
        Ok(MetaResponse::default())
    }
}
