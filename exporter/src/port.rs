use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::{ImmutableRef, LayerOptions};
use buildkit_errdefs::{BoxError, Classify, Kind};
use buildkit_session::SessionManager;
use buildkit_solver_result::BuildResult;
use buildkit_util_ocispec::Descriptor;
use buildkit_util_progress::Writer;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::CompatibilityVersion;

/// A result whose trees are there.
pub type ExportResult = BuildResult<ImmutableRef>;

/// What an exporter works with.
#[derive(Clone)]
pub struct ExportContext {
    /// Open sessions.
    pub sessions: SessionManager,
    /// The session that the result goes to; empty when the request named none.
    pub session_id: String,
    /// Progress of the export.
    pub progress: Writer,
    /// Fires when the build is cancelled.
    pub cancelled: CancellationToken,
    /// Which defaults hold.
    pub compatibility: CompatibilityVersion,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option or the result makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No exporter of this name.
    #[error("exporter \"{0}\" could not be found")]
    Unknown(String),
    /// The build is to be as an old version would have made it, which could not do this.
    #[error("unsupported compatibility-version {version} feature {feature}")]
    Incompatible {
        /// That of the build.
        version: CompatibilityVersion,
        /// What is asked for.
        feature: String,
    },
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
            Self::Invalid(_) | Self::Incompatible { .. } => Kind::InvalidArgument,
            Self::Unknown(_) => Kind::NotFound,
            Self::Other { kind, .. } => *kind,
        }
    }
}

/// What an export gives back.
#[derive(Default)]
pub struct Exported {
    /// Keys and values for the client, such as `containerimage.digest`.
    pub response: BTreeMap<String, String>,
    /// The image that the result became, if it became one.
    pub image: Option<ExportedImage>,
    /// The second phase, run when all exporters of the build succeeded (a push, for example).
    pub finalize: Option<Box<dyn Finalize>>,
}

/// An image that an exporter made.
#[derive(Clone, Debug)]
pub struct ExportedImage {
    /// Names the index, or else the manifest.
    pub descriptor: Descriptor,
    /// Index, manifests and configurations, so that what was made can be looked at later.
    pub documents: Vec<Bytes>,
}

/// The second phase of an export.
#[async_trait]
pub trait Finalize: Send + Sync {
    /// Completes the export; adds to the response.
    async fn finalize(self: Box<Self>, cx: &ExportContext) -> Result<BTreeMap<String, String>, Error>;
}

/// A kind of exporter. Implementations are registered in the daemon's `main`.
pub trait Exporter: Send + Sync + 'static {
    /// Its name in requests, such as `local`.
    fn name(&self) -> &'static str;

    /// Checks the options of the exporter at position `index` of the request. No I/O.
    ///
    /// # Errors
    /// When an option makes no sense.
    fn resolve(
        &self,
        index: usize,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn ExporterInstance>, Error>;
}

/// An exporter with its options.
#[async_trait]
pub trait ExporterInstance: Send + Sync + 'static {
    /// What people read, such as `exporting to client directory`.
    fn description(&self) -> String;

    /// What the layers of the result are wanted like, so that they can be made while the build goes on; `None` for
    /// an exporter that needs none.
    fn layers(&self) -> Option<LayerOptions> {
        None
    }

    /// Delivers the result. What was delivered of a failed export is removed where that is possible.
    async fn export(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error>;
}

/// The exporters of a worker, by name.
#[derive(Clone, Default)]
pub struct ExporterRegistry {
    exporters: BTreeMap<&'static str, Arc<dyn Exporter>>,
}

impl ExporterRegistry {
    /// A registry without exporters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an exporter; a later one of the same name takes its place.
    pub fn register(&mut self, exporter: Arc<dyn Exporter>) {
        self.exporters.insert(exporter.name(), exporter);
    }

    /// Finds an exporter and has its options checked.
    ///
    /// # Errors
    /// [`Error::Unknown`], or what the exporter finds wrong.
    pub fn resolve(
        &self,
        index: usize,
        name: &str,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn ExporterInstance>, Error> {
        self.exporters.get(name).ok_or_else(|| Error::Unknown(name.to_owned()))?.resolve(index, attrs)
    }
}
