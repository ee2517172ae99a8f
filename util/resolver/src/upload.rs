//! Pushing: blobs that are looked for, mounted or uploaded, and manifests.

use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::Provider;
use buildkit_util_ocispec::Descriptor;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use reqwest::{Method, Url};

use crate::Access;
use crate::answer::Answer;
use crate::body::{Sending, Told};
use crate::error::{Attempt, Error};
use crate::link::{Call, Link};
use crate::mount::best_source;
use crate::repository::{Repository, accept, check_digest, tail_of};
use crate::resolve::DIGEST;
use crate::retry::Budget;
use crate::walk::Shared;

/// Bytes of a piece, where a registry does not take a blob in one.
const PIECE: u64 = 16 << 20;
/// Bytes that make a try count as a success, though it broke in the end.
const PROGRESS: u64 = 4 << 20;
/// Least speed, in bytes per second, below which the total time ends an upload.
const LEAST_SPEED: u64 = 4 << 10;
const BINARY: &str = "application/octet-stream";

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// An upload that was begun.
struct Upload {
    /// Where the registry wants the next request.
    location: Url,
    /// Bytes that it has.
    offset: u64,
    /// Whether it was broken off before.
    is_resumed: bool,
}

/// A blob on its way.
struct Pushing<'a> {
    shared: &'a Shared,
    link: Link,
    blob: &'a Descriptor,
    source: &'a dyn Provider,
    what: String,
    told: Told,
    in_pieces: bool,
}

impl Repository {
    /// Sees to it that the repository has a blob: it may be there, or in one of the repositories
    /// `mount_from` of the same registry; else it is read from `source` and sent. `progress` is told how
    /// many bytes were sent, also when that starts anew. Nothing is verified but what the registry
    /// verifies.
    ///
    /// # Errors
    /// When the registry does not take it, or `source` does not give it.
    pub async fn push_blob(
        &self,
        blob: &Descriptor,
        source: &dyn Provider,
        mount_from: &[String],
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Pushed, Error> {
        let what = format!("blob {}@{}", self.shared.name.name(), blob.digest);
        let attempt = Attempt::new(self.shared.name.domain(), format!("push {what}"));
        self.check_push(&attempt, &blob.digest)?;
        let domain = self.shared.name.domain();
        let _permit = self.shared.inner.limited.acquire(domain, true, &blob.media_type).await;
        let link = self.shared.origin().await?;
        let told: Told = Arc::new(progress);
        let mut pushing = Pushing { shared: &self.shared, link, blob, source, what, told, in_pieces: false };
        if pushing.exists().await? {
            return Ok(Pushed::Existed);
        }
        pushing.push(mount_from).await
    }

    /// Stores a manifest or index under a tag, or else under its digest only. What it names has to be in
    /// the repository before.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub async fn push_manifest(
        &self,
        descriptor: &Descriptor,
        manifest: Bytes,
        tag: Option<&str>,
    ) -> Result<(), Error> {
        let object = tag.map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        let separator = if tag.is_some() { ':' } else { '@' };
        let what = format!("manifest of {}{separator}{object}", self.shared.name.path());
        let attempt = Attempt::new(self.shared.name.domain(), format!("PUT {what}"));
        self.check_push(&attempt, &descriptor.digest)?;
        if Digest::sha256(&manifest) != descriptor.digest {
            return Err(Error::refused(&attempt, "the bytes are not those of the descriptor"));
        }
        let domain = self.shared.name.domain();
        let _permit = self.shared.inner.limited.acquire(domain, true, "+json").await;
        let link = self.shared.origin().await?;
        let mut budget = self.shared.budget(Duration::ZERO);
        let tail = format!("manifests/{object}");
        let head = link.call(Method::HEAD, &tail, &what)?.header(ACCEPT, &accept(&descriptor.media_type));
        // Some registries do not let a tag be written twice, not even the same.
        if let Ok(answer) = link.send(&head, &mut budget).await
            && answer.header(DIGEST) == Some(descriptor.digest.as_str())
        {
            return Ok(());
        }
        let mut budget = self.shared.budget(Duration::ZERO);
        let mut put = link.call(Method::PUT, &tail, &what)?.header(CONTENT_TYPE, &descriptor.media_type);
        put.body = Some(manifest);
        let answer = link.send(&put, &mut budget).await?;
        check_stored(&answer, &descriptor.digest)
    }

    fn check_push(&self, attempt: &Attempt, digest: &Digest) -> Result<(), Error> {
        if self.shared.access != Access::Push {
            return Err(Error::refused(attempt, "the repository was opened to pull only"));
        }
        check_digest(attempt, digest)
    }
}

impl Pushing<'_> {
    fn budget(&self) -> Budget {
        let more = Duration::from_secs(self.blob.size / LEAST_SPEED);
        self.shared.budget(more)
    }

    async fn exists(&self) -> Result<bool, Error> {
        let tail = tail_of(&self.blob.digest, &self.blob.media_type);
        let mut call =
            self.link.call(Method::HEAD, &tail, &self.what)?.header(ACCEPT, &accept(&self.blob.media_type));
        call.by_digest = true;
        match self.link.send(&call, &mut self.budget()).await {
            Ok(_) => Ok(true),
            // Who may only push will be told what is wrong when they do.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unauthenticated) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn push(&mut self, mount_from: &[String]) -> Result<Pushed, Error> {
        let mut upload = match best_source(&self.link.repository, mount_from) {
            Some(from) => match self.mount(from).await? {
                Mounted::Done => return Ok(Pushed::Mounted),
                Mounted::Begun(upload) => Some(upload),
                Mounted::Refused => None,
            },
            None => None,
        };
        let mut budget = self.budget();
        let mut reached = 0;
        loop {
            let begun = match upload.take() {
                Some(upload) => Ok(upload),
                None => self.begin().await,
            };
            let error = match begun {
                Err(error) => error,
                Ok(mut begun) => match self.send(&mut begun).await {
                    Ok(answer) => {
                        check_stored(&answer, &self.blob.digest)?;
                        return Ok(Pushed::Uploaded);
                    }
                    Err(error) => {
                        let error = self.judge(error, &begun)?;
                        // The answer may be all that was lost.
                        if matches!(error, Error::Network { .. } | Error::Timeout { .. })
                            && self.exists().await.unwrap_or(false)
                        {
                            return Ok(Pushed::Uploaded);
                        }
                        if error.may_pass() {
                            upload = self.resume(&begun).await;
                        }
                        error
                    }
                },
            };
            if let Some(upload) = upload.as_ref().filter(|upload| upload.offset >= reached + PROGRESS) {
                reached = upload.offset;
                budget.renew(&self.link.inner.options.limits);
            }
            budget.again(error).await?;
        }
    }

    /// Whether an upload that failed is worth another try, and what the failure is then.
    fn judge(&mut self, error: Error, upload: &Upload) -> Result<Error, Error> {
        let again = |error: &Error| Error::Network {
            attempt: Attempt::new(self.link.host.name.as_str(), format!("push {}", self.what)),
            reason: error.to_string(),
        };
        match error.status() {
            // It takes no more than so much at a time.
            Some(413) if !self.in_pieces && self.blob.size > PIECE => {
                let passing = again(&error);
                self.in_pieces = true;
                Ok(passing)
            }
            // The registry has forgotten the upload, or has other bytes of it than it said.
            Some(404 | 416) => Ok(again(&error)),
            Some(400) if upload.is_resumed => Ok(again(&error)),
            _ if error.may_pass() => Ok(error),
            _ => Err(error),
        }
    }

    async fn mount(&self, from: &str) -> Result<Mounted, Error> {
        let tail = format!("blobs/uploads/?mount={}&from={from}", self.blob.digest);
        let what = format!("{} from {from}", self.what);
        let mut call = self.link.call(Method::POST, &tail, &what)?;
        call.also_pull = Some(from.to_owned());
        call.body = Some(Bytes::new());
        match self.link.send(&call, &mut self.budget()).await {
            Ok(answer) if answer.status() == 201 => Ok(Mounted::Done),
            Ok(answer) => Ok(self.begun(&call, &answer).map_or(Mounted::Refused, Mounted::Begun)),
            Err(error) => {
                tracing::debug!("{error}; the blob is sent instead");
                Ok(Mounted::Refused)
            }
        }
    }

    async fn begin(&self) -> Result<Upload, Error> {
        let mut call = self.link.call(Method::POST, "blobs/uploads/", &self.what)?;
        call.body = Some(Bytes::new());
        // Tries are counted by who calls.
        let answer = self.link.once(&call, None).await?;
        self.begun(&call, &answer)
    }

    fn begun(&self, call: &Call, answer: &Answer) -> Result<Upload, Error> {
        let location = self.location(call, answer)?.ok_or_else(|| Error::Network {
            attempt: call.attempt.clone(),
            reason: format!("{} without a place to upload to", answer.status().as_u16()),
        })?;
        Ok(Upload { location, offset: 0, is_resumed: false })
    }

    fn location(&self, call: &Call, answer: &Answer) -> Result<Option<Url>, Error> {
        let Some(text) = answer.header(LOCATION).filter(|text| !text.is_empty()) else { return Ok(None) };
        let mut url = answer.url().join(text).map_err(|error| {
            Error::invalid(&call.attempt, format!("the place to upload to is no URL: {error}"))
        })?;
        // Registries behind a proxy for TLS may not know of it.
        if url.scheme() == "http"
            && url.host_str() == answer.url().host_str()
            && url.port() == answer.url().port()
        {
            let _ = url.set_scheme(answer.url().scheme());
        }
        self.link.check_elsewhere(call, &url, false)?;
        Ok(Some(url))
    }

    /// Sends what is missing, and ends the upload.
    async fn send(&self, upload: &mut Upload) -> Result<Answer, Error> {
        let size = self.blob.size;
        if upload.offset == 0 && !self.in_pieces {
            return self.transfer(Method::PUT, upload, 0, size).await;
        }
        while upload.offset < size {
            let len = if self.in_pieces { PIECE.min(size - upload.offset) } else { size - upload.offset };
            let answer = self.transfer(Method::PATCH, upload, upload.offset, len).await?;
            upload.offset += len;
            let call = self.to(Method::PATCH, &upload.location, upload.offset);
            if let Some(location) = self.location(&call, &answer)? {
                upload.location = location;
            }
            match received(&answer) {
                Some(has) if has != upload.offset => {
                    let reason =
                        format!("the registry has {has} bytes of the {} that were sent", upload.offset);
                    return Err(Error::Network { attempt: call.attempt, reason });
                }
                _ => {}
            }
        }
        self.transfer(Method::PUT, upload, size, 0).await
    }

    fn to(&self, method: Method, url: &Url, offset: u64) -> Call {
        let from = if offset > 0 { format!(" from byte {offset}") } else { String::new() };
        let attempt = Attempt::new(self.link.host.name.as_str(), format!("{method} {}{from}", self.what));
        Call {
            method,
            url: url.clone(),
            headers: Vec::new(),
            body: None,
            also_pull: None,
            by_digest: false,
            attempt,
        }
    }

    /// Sends `len` bytes of the blob.
    async fn transfer(
        &self,
        method: Method,
        upload: &Upload,
        offset: u64,
        len: u64,
    ) -> Result<Answer, Error> {
        let is_end = method == Method::PUT;
        let mut call = self.to(method, &upload.location, offset);
        if is_end {
            call.url.query_pairs_mut().append_pair("digest", self.blob.digest.as_str());
        } else {
            let range = format!("{offset}-{}", offset + len - 1);
            call = call.header(CONTENT_RANGE, &range);
        }
        call = call.header(CONTENT_TYPE, BINARY).header(CONTENT_LENGTH, &len.to_string());
        let failed = |source| Error::Source { attempt: call.attempt.clone(), source: Box::new(source) };
        let limits = &self.link.inner.options.limits;
        if len == 0 {
            call.body = Some(Bytes::new());
            call.headers.retain(|(name, _): &(HeaderName, _)| *name != CONTENT_LENGTH);
            return self.link.once(&call, None).await;
        }
        let stream = self.source.read(self.blob, offset).await.map_err(failed)?;
        let (sending, body) = Sending::new(self.blob.digest.clone(), stream, offset, len, self.told.clone());
        // Some registries move what they were sent before they answer.
        let answer = limits.answer + Duration::from_secs(len / (10 << 20));
        let result = tokio::select! {
            result = self.link.once(&call, Some(body)) => result,
            (what, limit) = sending.watch(limits.stall, answer) => {
                Err(Error::Timeout { attempt: call.attempt.clone(), what, limit })
            }
        };
        // What could not be read is the reason, whatever the connection made of it.
        match sending.failure() {
            Some(source) => Err(failed(source)),
            None => result,
        }
    }

    /// How far an upload got that was broken off; none if it has to start anew.
    async fn resume(&self, upload: &Upload) -> Option<Upload> {
        let call = self.to(Method::GET, &upload.location, 0);
        let answer = self.link.once(&call, None).await.ok()?;
        let offset = received(&answer)?;
        let location = self.location(&call, &answer).ok()?.unwrap_or_else(|| upload.location.clone());
        (offset > 0 && offset <= self.blob.size).then_some(Upload { location, offset, is_resumed: true })
    }
}

enum Mounted {
    Done,
    Begun(Upload),
    Refused,
}

/// Bytes that a registry says to have of an upload. One byte looks like none.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.header(RANGE)?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (start, end) = range.split_once('-')?;
    if start != "0" {
        return None;
    }
    match end.trim().parse::<u64>().ok()? {
        0 => Some(0),
        end => end.checked_add(1),
    }
}

fn check_stored(answer: &Answer, digest: &Digest) -> Result<(), Error> {
    match answer.header(DIGEST) {
        Some(found) if found != digest.as_str() => {
            let reason = format!("the registry stored {}", crate::one_line(found));
            Err(Error::invalid(&answer.attempt, reason))
        }
        _ => Ok(()),
    }
}
