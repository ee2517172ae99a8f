use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use buildkit_cache::LayerOptions;
use buildkit_errdefs::{Classify, Kind};
use buildkit_exporter::{Error, ExportContext, ExportResult, Exported, Exporter, ExporterInstance};
use buildkit_exporter_containerimage::{CommitOptions, Committed, ImageWriter, parse_flag};
use buildkit_exporter_containerimage_exptypes::{key, option};
use buildkit_exporter_util_epoch::Timestamp;
use buildkit_session::{LOOKUP_WAIT, SessionCaller};
use buildkit_session_content::SessionContent;
use buildkit_session_filesync::{Error as SyncError, copy_file_writer};
use buildkit_solver_result::Refs;
use buildkit_util_ocispec::{Descriptor, annotation, media_type};
use buildkit_util_reference::Reference;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::archive::{Archive, ArchiveError};
use crate::layout::parse_names;

/// Name of the client's content store that images are exported to.
const STORE: &str = "export";
/// Blobs that are brought to the client at the same time.
const COPIES: usize = 4;

/// Who is to read the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Whoever reads OCI's layouts.
    Oci,
    /// `docker load`.
    Docker,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Docker => "docker",
        }
    }
}

/// The exporters `oci` and `docker`.
pub struct OciExporter {
    writer: ImageWriter,
    variant: Variant,
}

impl OciExporter {
    /// An exporter of the images that `writer` makes.
    pub fn new(writer: ImageWriter, variant: Variant) -> Self {
        Self { writer, variant }
    }
}

impl Exporter for OciExporter {
    fn name(&self) -> &'static str {
        self.variant.name()
    }

    fn resolve(
        &self,
        index: usize,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn ExporterInstance>, Error> {
        let (options, mut rest) = CommitOptions::load(attrs)?;
        let tar = match rest.remove(option::TAR) {
            Some(value) => parse_flag(option::TAR, &value)?,
            None => true,
        };
        let (writer, variant) = (self.writer.clone(), self.variant);
        Ok(Arc::new(Instance { writer, variant, index, options, tar, rest }))
    }
}

struct Instance {
    writer: ImageWriter,
    variant: Variant,
    index: usize,
    options: CommitOptions,
    /// Whether an archive is sent, and not blobs.
    tar: bool,
    /// What nobody knows is metadata.
    rest: BTreeMap<String, String>,
}

#[async_trait]
impl ExporterInstance for Instance {
    fn description(&self) -> String {
        format!("exporting to {} image format", self.variant)
    }

    fn layers(&self) -> Option<LayerOptions> {
        // Times are rewritten in layers that are there.
        Some(LayerOptions { compression: self.options.compression, rewrite: None })
    }

    async fn export(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        tokio::select! {
            exported = self.deliver(cx, result) => exported,
            () = cx.cancelled.cancelled() => Err(Error::Other {
                action: "failed to export".to_owned(),
                kind: Kind::Cancelled,
                source: "context canceled".into(),
            }),
        }
    }
}

impl Instance {
    async fn deliver(&self, cx: &ExportContext, result: &ExportResult) -> Result<Exported, Error> {
        let is_docker = self.variant == Variant::Docker;
        if is_docker && matches!(&result.refs, Refs::Many(refs) if !refs.is_empty()) {
            return Err(Error::Invalid(
                "docker exporter does not currently support exporting manifest lists".to_owned(),
            ));
        }
        let oci_types = (!is_docker).then_some(true);
        let (result, options) = self.writer.prepare(cx, result, &self.rest, &self.options, oci_types)?;
        let names = parse_names(&options.name_for(&result))?;
        let mut committed = self.writer.commit(cx, &result, &options, self.variant.name()).await?;
        date(&mut committed)?;
        let mut response = committed.answer();
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(Reference::to_string).collect();
            response.insert(key::NAME.to_owned(), names.join(","));
        }
        let caller =
            cx.sessions.get(&cx.session_id, LOOKUP_WAIT).await.map_err(|error| self.failed(error))?;
        if self.tar {
            let archive = Archive::new(&committed, &names, is_docker);
            self.send(cx, &caller, &archive, &committed, &response).await?;
        } else {
            self.fill_store(caller, &committed).await?;
        }
        Ok(Exported { response, image: Some(committed.exported()), finalize: None })
    }

    async fn send(
        &self,
        cx: &ExportContext,
        caller: &SessionCaller,
        archive: &Archive,
        committed: &Committed,
        response: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let mut file = copy_file_writer(caller, response, self.index).map_err(|error| self.failed(error))?;
        let progress = cx.progress.start("sending tarball");
        let sent = match archive.write(committed.provider().as_ref(), &mut file).await {
            Ok(()) => file.finish().await.map_err(ArchiveError::from),
            Err(ArchiveError::Client(error)) => Err(error.into()),
            // What is incomplete is not taken for an image.
            Err(error) => Err(file.abandon().await.map_or(error, ArchiveError::from)),
        };
        match sent {
            Ok(()) | Err(ArchiveError::Client(SyncError::AlreadyExists(_))) => {
                progress.done(0, 0);
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Brings all blobs into the client's store, what names others after them.
    async fn fill_store(&self, caller: SessionCaller, committed: &Committed) -> Result<(), Error> {
        let store = SessionContent::of_caller(caller, STORE);
        let provider = committed.provider();
        let names_others =
            |media_type: &str| media_type::is_manifest(media_type) || media_type::is_index(media_type);
        let blobs = committed.all().into_iter().cloned();
        let (last, first): (Vec<Descriptor>, Vec<_>) = blobs.partition(|blob| names_others(&blob.media_type));
        let copy = |blob: Descriptor| {
            let (store, provider) = (&store, provider.as_ref());
            async move { store.copy(provider, &blob).await }
        };
        let copied = async {
            stream::iter(first).map(copy).buffer_unordered(COPIES).try_collect::<()>().await?;
            for blob in last {
                copy(blob).await?;
            }
            Ok(())
        };
        copied.await.map_err(|error: buildkit_util_contentutil::Error| self.failed(error))
    }

    fn failed<E: Classify + Send + Sync + 'static>(&self, source: E) -> Error {
        Error::Other {
            action: format!("failed to export to {} image format", self.variant),
            kind: source.kind(),
            source: source.into(),
        }
    }
}

/// Notes when the image was made.
fn date(image: &mut Committed) -> Result<(), Error> {
    let now = || Timestamp::from(SystemTime::now()).seconds();
    let time = Timestamp::from_seconds(image.epoch.unwrap_or_else(now))
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let annotations = &mut image.descriptor.annotations;
    annotations.entry(annotation::CREATED.to_owned()).or_insert_with(|| time.to_string());
    Ok(())
}
