//! What a tag or a digest stands for at one host.

use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{Descriptor, Document, DocumentError, MAX_MANIFEST, media_type};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::answer::Answer;
use crate::error::{Attempt, Error, one_line};
use crate::link::Link;
use crate::repository::check_digest;
use crate::retry::Budget;

/// Header with the digest of what was asked for.
pub(crate) const DIGEST: &str = "docker-content-digest";
/// The types that a tag can stand for, as upstream asks for them.
const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

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

/// Asks one host what `object`, a tag or a digest, stands for.
pub(crate) async fn resolve_at(
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
