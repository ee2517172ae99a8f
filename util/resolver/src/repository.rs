use std::fmt;
use std::sync::Arc;

use buildkit_session::SessionGroup;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::Provider;
use buildkit_util_ocispec::{Descriptor, Document, DocumentError, Index, MAX_MANIFEST, media_type};
use buildkit_util_reference::Reference;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::ACCEPT;

use crate::blobs::Blobs;
use crate::error::{Attempt, Error};
use crate::registries::Inner;
use crate::resolve::{Resolved, resolve_at};
use crate::walk::Shared;
use crate::{Access, one_line};

/// A repository of a registry. Clones are the same.
#[derive(Clone)]
pub struct Repository {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Repository {
    pub(crate) fn new(
        inner: Arc<Inner>,
        name: Reference,
        group: SessionGroup,
        access: Access,
        insecure: bool,
    ) -> Self {
        Self { shared: Arc::new(Shared::new(inner, name, group, access, insecure)) }
    }

    /// The same repository, which tells what failed and is tried again: lines for people, each with its end.
    pub fn telling_retries(&self, told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(self.shared.telling_retries(Arc::new(told))) }
    }

    /// The name that it was made with.
    pub fn name(&self) -> &Reference {
        &self.shared.name
    }

    /// What the name stands for, by its digest or else by its tag (`latest` if it has none). The registry
    /// is believed what a tag stands for; a digest must come back.
    ///
    /// # Errors
    /// [`buildkit_errdefs::Kind::NotFound`] when there is no such manifest, or it is of Docker's oldest
    /// kind, or what else the registry says.
    pub async fn resolve(&self) -> Result<Resolved, Error> {
        let name = self.shared.name.clone().with_default_tag();
        let object = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let expected = name.digest().cloned();
        let what = format!("manifest of {}", text_of(&name));
        let mut walk = self.shared.walk();
        loop {
            let (link, mut budget) = walk.next().await?;
            match resolve_at(&link, &mut budget, &object, &what, expected.as_ref()).await {
                Ok(found) => return Ok(found),
                Err(error) => walk.failed(error)?,
            }
        }
    }

    /// A manifest or index by its digest, verified. A descriptor with the size 0 is of unknown size.
    ///
    /// # Errors
    /// When it is not there, or is not what was asked for.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let what = format!("manifest {}@{}", self.shared.name.name(), descriptor.digest);
        let attempt = Attempt::new(self.shared.name.domain(), format!("GET {what}"));
        check_digest(&attempt, &descriptor.digest)?;
        if descriptor.size > MAX_MANIFEST {
            let source = DocumentError::TooLarge { what: "the manifest".to_owned(), size: descriptor.size };
            return Err(Error::Document { attempt, source });
        }
        let domain = self.shared.name.domain();
        let _permit = self.shared.inner.limited.acquire(domain, false, "+json").await;
        let max = if descriptor.size == 0 { MAX_MANIFEST } else { descriptor.size };
        let mut walk = self.shared.walk();
        loop {
            let (link, mut budget) = walk.next().await?;
            let found = async {
                let tail = format!("manifests/{}", descriptor.digest);
                let mut call = link.call(Method::GET, &tail, &what)?;
                call.by_digest = true;
                call = call.header(ACCEPT, &accept(&descriptor.media_type));
                let bytes = link.get(&call, &mut budget, max).await?;
                verified(&call.attempt, &descriptor.digest, descriptor.size, bytes)
            };
            match found.await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => walk.failed(error)?,
            }
        }
    }

    /// Gives the blobs of the repository, and its manifests by their types. Reads go on after a connection
    /// broke, where it broke.
    pub fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(Blobs(self.shared.clone()))
    }

    /// Whether the repository has a blob or manifest.
    ///
    /// # Errors
    /// What the registry says else.
    pub async fn exists(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        use buildkit_errdefs::{Classify as _, Kind};
        match self.stat(&descriptor.digest, &descriptor.media_type).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The size of a blob or manifest of the repository; none if the registry does not say.
    ///
    /// # Errors
    /// When it is not there, or what the registry says else.
    pub async fn stat(&self, digest: &Digest, media_type: &str) -> Result<Option<u64>, Error> {
        let attempt = Attempt::new(self.shared.name.domain(), format!("HEAD {digest}"));
        check_digest(&attempt, digest)?;
        let tail = tail_of(digest, media_type);
        let what = format!("{}@{digest}", self.shared.name.name());
        let mut walk = self.shared.walk();
        loop {
            let (link, mut budget) = walk.next().await?;
            let found = async {
                let mut call = link.call(Method::HEAD, &tail, &what)?;
                call.by_digest = true;
                let call = call.header(ACCEPT, &accept(media_type));
                Ok::<_, Error>(link.send(&call, &mut budget).await?.length())
            };
            match found.await {
                Ok(length) => return Ok(length),
                Err(error) => walk.failed(error)?,
            }
        }
    }

    /// What refers to a manifest: what the registry lists, or else what stands under the tag that clients
    /// keep for that. Nothing is an empty index.
    ///
    /// # Errors
    /// What the registry says else than that there is nothing.
    pub async fn referrers(&self, digest: &Digest) -> Result<Index, Error> {
        use buildkit_errdefs::{Classify as _, Kind};
        let attempt = Attempt::new(self.shared.name.domain(), format!("GET referrers of {digest}"));
        check_digest(&attempt, digest)?;
        let tag = format!("manifests/{}-{}", digest.algorithm(), digest.encoded());
        let what = format!("referrers of {}@{digest}", self.shared.name.name());
        for tail in [format!("referrers/{digest}"), tag] {
            match self.index_at(&tail, &what).await {
                Ok(index) => return Ok(index),
                // Registries without such lists say that they do not know the way.
                Err(error) if error.kind() == Kind::NotFound || error.status() == Some(405) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Index::new(Vec::new()))
    }

    async fn index_at(&self, tail: &str, what: &str) -> Result<Index, Error> {
        let mut walk = self.shared.walk();
        loop {
            let (link, mut budget) = walk.next().await?;
            let found = async {
                let call = link.call(Method::GET, tail, what)?.header(ACCEPT, media_type::OCI_INDEX);
                let bytes = link.get(&call, &mut budget, MAX_MANIFEST).await?;
                match Document::parse("the list", media_type::OCI_INDEX, &bytes) {
                    Ok(Document::Index(index)) => Ok(*index),
                    Ok(Document::Manifest(_)) => Err(Error::invalid(&call.attempt, "it is no index")),
                    Err(source) => Err(Error::Document { attempt: call.attempt, source }),
                }
            };
            match found.await {
                Ok(index) => return Ok(index),
                Err(error) => walk.failed(error)?,
            }
        }
    }
}

/// Refuses digests that cannot be verified before they get into a request.
pub(crate) fn check_digest(attempt: &Attempt, digest: &Digest) -> Result<(), Error> {
    if digest.algorithm() == "sha256" {
        return Ok(());
    }
    Err(Error::refused(attempt, format!("the digest {} is not SHA-256", one_line(digest.as_str()))))
}

fn verified(attempt: &Attempt, digest: &Digest, size: u64, bytes: Bytes) -> Result<Bytes, Error> {
    let found = Digest::sha256(&bytes);
    if found != *digest {
        return Err(Error::invalid(attempt, format!("the registry answers with {found}")));
    }
    if size != 0 && bytes.len() as u64 != size {
        let reason = format!("the manifest has {} bytes, not {size}", bytes.len());
        return Err(Error::invalid(attempt, reason));
    }
    Ok(bytes)
}

pub(crate) fn accept(media_type: &str) -> String {
    if media_type.is_empty() { "*/*".to_owned() } else { format!("{media_type}, */*") }
}

/// Where an object is: manifests have a place of their own.
pub(crate) fn tail_of(digest: &Digest, media_type: &str) -> String {
    let place = if media_type::is_manifest(media_type) || media_type::is_index(media_type) {
        "manifests"
    } else {
        "blobs"
    };
    format!("{place}/{digest}")
}

/// `a/b:latest`, as errors have it.
fn text_of(name: &Reference) -> String {
    let text = name.to_string();
    text.split_once('/').map_or(text.clone(), |(_, path)| path.to_owned())
}
