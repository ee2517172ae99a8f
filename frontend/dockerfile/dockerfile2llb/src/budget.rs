use std::sync::atomic::{AtomicUsize, Ordering};

use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_instructions::ArgDefinition;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_ocispec::DockerImage;

use crate::Result;

/// Most bytes that conversions may take together.
const LIMIT: usize = 256 << 20;
/// What an entry of a list or of a map takes beside its text.
const ENTRY: usize = 128;

/// What the conversions of one build may take together.
///
/// A few lines can ask for any amount of memory: a stage has all that was set in the stage that it begins with, and
/// a step has all variables of its stage. Whoever copies such things counts them here, so that the build of a file
/// that goes too far ends in an error.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: AtomicUsize::new(LIMIT) }
    }
}

impl Budget {
    /// Counts bytes that are kept.
    pub(crate) fn take(&self, bytes: usize) -> Result<()> {
        let take = |left: usize| left.checked_sub(bytes);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => {
                let text = format!(
                    "the Dockerfile asks for too much: what its stages and steps inherit takes more than {} MiB",
                    LIMIT >> 20
                );
                Err(RemoteError::new(Kind::ResourceExhausted, text).into())
            }
        }
    }
}

/// About the bytes of a list of texts.
pub(crate) fn size_of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(|text| text.len() + ENTRY).sum()
}

/// About the bytes of variables.
pub(crate) fn size_of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> usize {
    pairs.into_iter().map(|(key, value)| key.len() + value.len() + ENTRY).sum()
}

/// About the bytes of arguments.
pub(crate) fn size_of_args(args: &[ArgDefinition]) -> usize {
    size_of_pairs(args.iter().map(|arg| (arg.key.as_str(), arg.value_or_empty())))
}

/// About the bytes of what an image's configuration has any number of.
pub(crate) fn size_of_image(image: &DockerImage) -> usize {
    let config = &image.config;
    let lists = [&config.env, &config.entrypoint, &config.cmd, &config.on_build, &config.shell];
    let texts = lists.into_iter().flatten().chain(config.exposed_ports.keys()).chain(config.volumes.keys());
    let layers = image.rootfs.diff_ids.iter().flatten().map(|layer| layer.as_str());
    let history = image
        .history
        .iter()
        .map(|entry| entry.created_by.as_str())
        .chain(config.healthcheck.iter().flat_map(|health| health.test.iter().map(String::as_str)));
    size_of_texts(texts.map(String::as_str).chain(layers).chain(history))
        + size_of_pairs(config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}
