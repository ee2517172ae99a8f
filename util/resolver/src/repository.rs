use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buildkit_session::SessionGroup;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::Provider;
use buildkit_util_ocispec::{Descriptor, Document, DocumentError, Index, MAX_MANIFEST, media_type};
use buildkit_util_reference::Reference;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::answer::Answer;
use crate::blobs::Blobs;
use crate::error::{Attempt, Error};
use crate::hosts::{Host, hosts_of};
use crate::link::Link;
use crate::registries::Inner;
use crate::retry::{Budget, Retries};
use crate::{Access, one_line};

/// Header with the digest of what was asked for.
pub(crate) const DIGEST: &str = "docker-content-digest";
/// The types that a tag can stand for, as upstream asks for them.
const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// A repository of a registry. Clones are the same.
#[derive(Clone)]
pub struct Repository {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) inner: Arc<Inner>,
    pub(crate) name: Reference,
    pub(crate) group: SessionGroup,
    pub(crate) access: Access,
    hosts: Vec<Host>,
    retries: Option<Retries>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Type, digest and size of the manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes, if they had to be fetched to know.
    pub manifest: Option<Bytes>,
    /// Which host said so.
    pub host: String,
}

impl Repository {
    pub(crate) fn new(
        inner: Arc<Inner>,
        name: Reference,
        group: SessionGroup,
        access: Access,
        insecure: bool,
    ) -> Self {
        let hosts = hosts_of(name.domain(), &inner.options.registries, access, insecure);
        Self { shared: Arc::new(Shared { inner, name, group, access, hosts, retries: None }) }
    }

    /// The same repository, which tells what failed and is tried again: lines for people, each with its end.
    pub fn telling_retries(&self, told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let Shared { inner, name, group, access, hosts, .. } = &*self.shared;
        Self {
            shared: Arc::new(Shared {
                inner: inner.clone(),
                name: name.clone(),
                group: group.clone(),
                access: *access,
                hosts: hosts.clone(),
                retries: Some(Arc::new(told)),
            }),
        }
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
        Ok(Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: String::new(),
            manifests: Vec::new(),
            subject: None,
            annotations: std::collections::BTreeMap::default(),
        })
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

/// Asks one host after another.
pub(crate) struct Walk<'a> {
    shared: &'a Shared,
    /// Hosts that were asked.
    asked: usize,
    mirrors: Vec<String>,
}

impl Walk<'_> {
    /// The next host, and what may be spent on it.
    ///
    /// # Errors
    /// When the last one cannot be asked.
    pub(crate) async fn next(&mut self) -> Result<(Link, Budget), Error> {
        let shared = self.shared;
        loop {
            let Some(host) = shared.hosts.get(self.asked).cloned() else { return Err(shared.no_host()) };
            self.asked += 1;
            let mut budget = shared.budget(Duration::ZERO);
            if self.asked < shared.hosts.len() {
                budget = budget.short();
            }
            match shared.inner.link(host, &shared.name, &shared.group, shared.access).await {
                Ok(link) => return Ok((link, budget)),
                Err(error) => self.failed(error)?,
            }
        }
    }

    /// The host did not do it.
    ///
    /// # Errors
    /// That, when it was the last one.
    pub(crate) fn failed(&mut self, error: Error) -> Result<(), Error> {
        if self.asked < self.shared.hosts.len() {
            tracing::info!("{error}; trying the next host");
            self.mirrors.push(error.to_string());
            return Ok(());
        }
        if self.mirrors.is_empty() {
            return Err(error);
        }
        Err(Error::All { origin: Box::new(error), mirrors: self.mirrors.join("; ") })
    }
}

impl Shared {
    /// What may be spent on one request; `more` is added to the total time.
    pub(crate) fn budget(&self, more: Duration) -> Budget {
        Budget::new(&self.inner.options.limits, more).telling(self.retries.clone())
    }

    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { shared: self, asked: 0, mirrors: Vec::new() }
    }

    /// Asks those hosts that come after one, which was asked.
    pub(crate) fn walk_after(&self, host: &Host) -> Walk<'_> {
        let at = self.hosts.iter().position(|known| known == host);
        Walk { shared: self, asked: at.map_or(self.hosts.len(), |at| at + 1), mirrors: Vec::new() }
    }

    fn no_host(&self) -> Error {
        Error::Config { host: self.name.domain().to_owned(), reason: "it has no host".to_owned() }
    }

    /// The repository at the registry itself.
    pub(crate) async fn origin(&self) -> Result<Link, Error> {
        let host = self.hosts.last().cloned().ok_or_else(|| self.no_host())?;
        self.inner.link(host, &self.name, &self.group, self.access).await
    }
}

async fn resolve_at(
    link: &Link,
    budget: &mut Budget,
    object: &str,
    what: &str,
    expected: Option<&Digest>,
) -> Result<Resolved, Error> {
    let host = link.host.name.clone();
    let tail = format!("manifests/{object}");
    let mut call = link.call(Method::HEAD, &tail, what)?.header(ACCEPT, MANIFESTS);
    call.by_digest = expected.is_some();
    let head = match link.send(&call, budget).await {
        Ok(answer) => head_of(&answer, expected)?,
        // Some registries know GET only.
        Err(error) if matches!(error.status(), Some(405 | 501)) => None,
        // An error without words: the same question with an answer that has some.
        Err(error) if error.status() == Some(403) => None,
        Err(error) => return Err(error),
    };
    if let Some(descriptor) = head {
        return Ok(Resolved { descriptor, manifest: None, host });
    }
    let mut call = link.call(Method::GET, &tail, what)?.header(ACCEPT, MANIFESTS);
    call.by_digest = expected.is_some();
    loop {
        let got = async {
            let answer = link.send(&call, budget).await?;
            let named = type_of(&answer);
            Ok((named, digest_of(&answer)?, answer.bytes(MAX_MANIFEST).await?))
        };
        let (named, said, bytes) = match got.await {
            Ok(got) => got,
            Err(error) => {
                budget.again(error).await?;
                continue;
            }
        };
        let digest = Digest::sha256(&bytes);
        for (who, other) in [("the name", expected), ("the header", said.as_ref())] {
            if let Some(other) = other.filter(|other| **other != digest) {
                let reason = format!("the manifest has the digest {digest}, and {who} says {other}");
                return Err(Error::invalid(&call.attempt, reason));
            }
        }
        // A type that says nothing is looked for in the document.
        let known = named.filter(|named| is_known(named));
        let media_type = known.or_else(|| Document::detect(&bytes)).unwrap_or_default();
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        check_type(&call.attempt, &descriptor.media_type)?;
        return Ok(Resolved { descriptor, manifest: Some(bytes), host });
    }
}

/// What the headers tell, if that is all that there is to know.
fn head_of(answer: &Answer, expected: Option<&Digest>) -> Result<Option<Descriptor>, Error> {
    let said = digest_of(answer)?;
    if let (Some(said), Some(expected)) = (&said, expected)
        && said != expected
    {
        let reason = format!("asked for {expected}, the registry answers with {said}");
        return Err(Error::invalid(&answer.attempt, reason));
    }
    let (Some(digest), Some(size)) = (expected.cloned().or(said), answer.length()) else { return Ok(None) };
    let Some(media_type) = type_of(answer).filter(|named| is_known(named)) else { return Ok(None) };
    check_type(&answer.attempt, &media_type)?;
    if size > MAX_MANIFEST {
        let source = DocumentError::TooLarge { what: "the manifest".to_owned(), size };
        return Err(Error::Document { attempt: answer.attempt.clone(), source });
    }
    // Nobody writes empty manifests, but some write that of an answer without a body.
    Ok((size > 0).then(|| Descriptor::new(media_type, digest, size)))
}

fn digest_of(answer: &Answer) -> Result<Option<Digest>, Error> {
    let Some(text) = answer.header(DIGEST) else { return Ok(None) };
    let invalid = || {
        let reason = format!("{:?} in header not a valid digest", one_line(text));
        Error::invalid(&answer.attempt, reason)
    };
    let digest = Digest::parse(text).map_err(|_| invalid())?;
    check_digest(&answer.attempt, &digest)?;
    Ok(Some(digest))
}

fn type_of(answer: &Answer) -> Option<String> {
    let text = answer.header(CONTENT_TYPE)?;
    Some(text.split(';').next().unwrap_or_default().trim().to_owned())
}

fn is_known(media_type: &str) -> bool {
    media_type::is_manifest(media_type)
        || media_type::is_index(media_type)
        || media_type == media_type::DOCKER_SCHEMA1
}

fn check_type(attempt: &Attempt, media_type: &str) -> Result<(), Error> {
    if media_type::is_manifest(media_type) || media_type::is_index(media_type) {
        return Ok(());
    }
    let (what, media_type) = ("the manifest".to_owned(), one_line(media_type));
    Err(Error::Document { attempt: attempt.clone(), source: DocumentError::Unsupported { what, media_type } })
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
