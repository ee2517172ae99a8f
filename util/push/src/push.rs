use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::Provider;
use buildkit_util_ocispec::{Descriptor, annotation};
use buildkit_util_progress::Writer;
use buildkit_util_resolver::Repository;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::Error;
use crate::plan::{Part, Plan};
use crate::progress::Blob;

/// Parts that are looked after at a time. How many of them are sent is up to the registry's limit.
const PARALLEL: usize = 16;

/// How an image is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// The root gets no tag.
    pub by_digest: bool,
    /// Annotations of blobs beyond those of their descriptors: the repositories that have them
    /// (`containerd.io/distribution.source.HOST`).
    pub annotations: BTreeMap<Digest, BTreeMap<String, String>>,
}

/// Pushes an image under the tag of the repository's name, `latest` if it has none. `provider` gives its
/// manifests as well as its blobs. Layers that registries must not give away are left out, and what is
/// there is not sent.
///
/// # Errors
/// [`Error::Tagged`] when a name with a tag is to be pushed by digest, or when a part cannot be read or
/// pushed. What was pushed until then stays; the tag is moved last.
pub async fn push(
    repository: &Repository,
    root: &Descriptor,
    provider: Arc<dyn Provider>,
    options: &PushOptions,
    progress: &Writer,
) -> Result<(), Error> {
    let name = repository.name();
    if options.by_digest && (name.tag().is_some() || name.digest().is_some()) {
        return Err(Error::Tagged(name.to_string()));
    }
    let (tag, text) = if options.by_digest {
        (None, name.name())
    } else {
        let tag = name.tag().unwrap_or(buildkit_util_reference::DEFAULT_TAG);
        (Some(tag), format!("{}:{tag}@{}", name.name(), root.digest))
    };
    let task = Push { repository, provider, options, progress };
    let layers = progress.start("pushing layers");
    let planned = task.layers(root).await;
    layers.done(0, 0);
    let plan = planned?;
    let manifests = progress.start(&format!("pushing manifest for {text}"));
    let pushed = task.manifests(plan, root, tag).await;
    manifests.done(0, 0);
    pushed
}

struct Push<'a> {
    repository: &'a Repository,
    provider: Arc<dyn Provider>,
    options: &'a PushOptions,
    progress: &'a Writer,
}

impl Push<'_> {
    async fn layers(&self, root: &Descriptor) -> Result<Plan, Error> {
        let mut plan = Plan::of(root, &*self.provider).await?;
        let blobs = std::mem::take(&mut plan.blobs);
        let pushes = blobs.into_iter().map(|blob| self.blob(blob));
        futures::stream::iter(pushes).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        Ok(plan)
    }

    async fn blob(&self, blob: Descriptor) -> Result<(), Error> {
        let shown = Blob::new(self.progress, blob.digest.as_str(), blob.size);
        let sent = move |bytes| shown.sent(bytes);
        let sources = self.sources(&blob);
        self.repository.push_blob(&blob, &*self.provider, &sources, sent).await?;
        Ok(())
    }

    /// Repositories of the same registry that are said to have a blob.
    fn sources(&self, blob: &Descriptor) -> Vec<String> {
        let domain = self.repository.name().domain();
        // Those who write such annotations leave the port out.
        let bare = domain.rsplit_once(':').map_or(domain, |(bare, _)| bare);
        let more = self.options.annotations.get(&blob.digest);
        let all = blob.annotations.iter().chain(more.into_iter().flatten());
        let of_registry = all.filter(|(key, _)| {
            key.strip_prefix(annotation::DISTRIBUTION_SOURCE)
                .is_some_and(|host| host == domain || host == bare)
        });
        of_registry.flat_map(|(_, names)| names.split(',')).map(str::to_owned).collect()
    }

    async fn manifests(&self, plan: Plan, root: &Descriptor, tag: Option<&str>) -> Result<(), Error> {
        let put = async |part: Part, tag: Option<&str>| {
            self.repository.push_manifest(&part.descriptor, part.bytes, tag).await
        };
        let pushes = plan.manifests.into_iter().map(|part| put(part, None));
        futures::stream::iter(pushes).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        for part in plan.last {
            let tag = tag.filter(|_| part.descriptor.digest == root.digest);
            put(part, tag).await?;
        }
        Ok(())
    }
}
