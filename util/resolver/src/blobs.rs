//! Blobs as streams that outlive their connections.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildkit_util_contentutil::{BlobStream, Error as ContentError, Provider};
use buildkit_util_ocispec::{Descriptor, media_type};
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderName, RANGE};
use reqwest::{Method, StatusCode, Url};

use crate::answer::Answer;
use crate::error::{Attempt, Error, one_line};
use crate::hosts::host_of;
use crate::limited::Permit;
use crate::link::{Call, Link};
use crate::repository::{accept, check_digest, tail_of};
use crate::retry::Budget;
use crate::walk::{Shared, Walk};

/// Bytes that make a try count as a success, though it broke in the end.
const PROGRESS: u64 = 4 << 20;
/// Least speed, in bytes per second, below which the total time ends a transfer.
const LEAST_SPEED: u64 = 4 << 10;
/// URLs of one layer that are tried.
const MAX_URLS: usize = 8;

/// Gives the blobs of a repository.
pub(crate) struct Blobs(pub(crate) Arc<Shared>);

/// Where a blob is read from.
enum Place {
    Host(Box<Link>, Call),
    Elsewhere(reqwest::Client, Url, Attempt),
}

/// A blob that is being read.
struct Transfer {
    place: Place,
    answer: Option<Answer>,
    /// Bytes of the blob that were given.
    offset: u64,
    size: u64,
    blob: Descriptor,
    /// Bytes of the answer to pass over: it begins where nobody asked it to.
    skip: u64,
    /// Where the last failure was, so that progress can be told.
    failed_at: u64,
    budget: Budget,
    shared: Arc<Shared>,
    _permit: Option<Permit>,
}

#[async_trait]
impl Provider for Blobs {
    async fn read(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, ContentError> {
        let mut transfer = self.open(blob, offset).await.map_err(ContentError::provider)?;
        if transfer.offset >= transfer.size {
            transfer.answer = None;
        }
        Ok(Box::pin(futures::stream::try_unfold(transfer, |mut transfer| async move {
            let next = transfer.next().await.map_err(ContentError::provider)?;
            Ok(next.map(|chunk| (chunk, transfer)))
        })))
    }
}

impl Blobs {
    async fn open(&self, blob: &Descriptor, offset: u64) -> Result<Transfer, Error> {
        let shared = &self.0;
        let attempt = Attempt::new(shared.name.domain(), format!("GET blob {}", blob.digest));
        check_digest(&attempt, &blob.digest)?;
        if offset > blob.size {
            return Err(Error::refused(&attempt, format!("the blob ends before byte {offset}")));
        }
        let permit = shared.inner.limited.acquire(shared.name.domain(), false, &blob.media_type).await;
        // Registries do not have layers that they must not give away.
        let is_foreign = media_type::is_foreign_layer(&blob.media_type);
        let mut failed = None;
        if is_foreign {
            match self.elsewhere(blob, offset).await {
                Ok(transfer) => return Ok(transfer.with(permit)),
                Err(error) => failed = error,
            }
        }
        let error = match self.at_hosts(&mut self.0.walk(), blob, offset).await {
            Ok(transfer) => return Ok(transfer.with(permit)),
            Err(error) => error,
        };
        if !is_foreign && error.status() == Some(404) {
            match self.elsewhere(blob, offset).await {
                Ok(transfer) => return Ok(transfer.with(permit)),
                Err(other) => failed = other,
            }
        }
        Err(failed.unwrap_or(error))
    }

    async fn at_hosts(&self, walk: &mut Walk<'_>, blob: &Descriptor, offset: u64) -> Result<Transfer, Error> {
        let what = format!("blob {}@{}", self.0.name.name(), blob.digest);
        let tail = tail_of(&blob.digest, &blob.media_type);
        loop {
            let (link, _) = walk.next().await?;
            let is_mirror = link.host.is_mirror;
            let opened = async {
                let call = link.call(Method::GET, &tail, &what)?.header(ACCEPT, &accept(&blob.media_type));
                let call = Call { by_digest: true, ..call };
                let mut transfer = self.transfer(Place::Host(Box::new(link), call), blob, offset);
                if is_mirror {
                    transfer.budget = transfer.budget.short();
                }
                transfer.connect().await?;
                Ok(transfer)
            };
            match opened.await {
                Ok(transfer) => return Ok(transfer),
                Err(error) => walk.failed(error)?,
            }
        }
    }

    /// From where the descriptor says that it is too. Nothing that authorizes anybody goes there.
    async fn elsewhere(&self, blob: &Descriptor, offset: u64) -> Result<Transfer, Option<Error>> {
        let mut failed = None;
        for text in blob.urls.iter().take(MAX_URLS) {
            let Ok(url) = Url::parse(text) else { continue };
            let attempt = Attempt::new(host_of(&url), format!("GET blob {}", blob.digest));
            if !matches!(url.scheme(), "http" | "https")
                || !url.username().is_empty()
                || url.password().is_some()
            {
                failed = Some(Error::refused(&attempt, format!("not asked for at {:?}", one_line(text))));
                continue;
            }
            let client = self.0.inner.others().await.map_err(Some)?;
            let mut transfer = self.transfer(Place::Elsewhere(client, url, attempt), blob, offset);
            match transfer.connect().await {
                Ok(()) => return Ok(transfer),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed)
    }

    fn transfer(&self, place: Place, blob: &Descriptor, offset: u64) -> Transfer {
        let more = Duration::from_secs((blob.size - offset) / LEAST_SPEED);
        Transfer {
            place,
            answer: None,
            offset,
            size: blob.size,
            blob: blob.clone(),
            skip: 0,
            failed_at: offset,
            budget: self.0.budget(more),
            shared: self.0.clone(),
            _permit: None,
        }
    }
}

impl Transfer {
    fn with(mut self, permit: Option<Permit>) -> Self {
        self._permit = permit;
        self
    }

    /// The next bytes; none at the end of the blob.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.offset < self.size {
            let Some(answer) = &mut self.answer else {
                if let Err(error) = self.connect().await {
                    self.go_on_elsewhere(error).await?;
                }
                continue;
            };
            let deadline = self.budget.deadline();
            let attempt = answer.attempt.clone();
            let error = match tokio::time::timeout_at(deadline, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => match self.take(chunk, &attempt)? {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                },
                Ok(Ok(None)) => {
                    let reason = format!("the answer ended after {} of {} bytes", self.offset, self.size);
                    Error::Network { attempt, reason }
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let limit = self.shared.inner.options.limits.total;
                    self.answer = None;
                    self.go_on_elsewhere(Error::Timeout { attempt, what: "end", limit }).await?;
                    continue;
                }
            };
            self.answer = None;
            if self.offset - self.failed_at >= PROGRESS {
                self.budget.renew(&self.shared.inner.options.limits);
            }
            self.failed_at = self.offset;
            if let Err(error) = self.budget.again(error).await {
                self.go_on_elsewhere(error).await?;
            }
        }
        Ok(None)
    }

    /// A mirror that breaks in the middle is no reason to do without the blob: the next host has the rest.
    async fn go_on_elsewhere(&mut self, error: Error) -> Result<(), Error> {
        let Place::Host(link, _) = &self.place else { return Err(error) };
        if !link.host.is_mirror {
            return Err(error);
        }
        let shared = self.shared.clone();
        let mut walk = shared.walk_after(&link.host);
        walk.failed(error)?;
        let next = Blobs(shared.clone()).at_hosts(&mut walk, &self.blob, self.offset).await?;
        let permit = self._permit.take();
        *self = next.with(permit);
        Ok(())
    }

    /// Cuts off what was passed over, and refuses what is too much.
    fn take(&mut self, mut chunk: Bytes, attempt: &Attempt) -> Result<Option<Bytes>, Error> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        drop(chunk.split_to(usize::try_from(skipped).unwrap_or(chunk.len())));
        if chunk.is_empty() {
            return Ok(None);
        }
        if chunk.len() as u64 > self.size - self.offset {
            return Err(Error::invalid(attempt, format!("the blob is larger than its {} bytes", self.size)));
        }
        self.offset += chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// Asks for what is missing.
    async fn connect(&mut self) -> Result<(), Error> {
        let range = (self.offset > 0).then(|| format!("bytes={}-", self.offset));
        let answer = match &self.place {
            Place::Host(link, call) => {
                let call = match &range {
                    Some(range) => call.clone().header(RANGE, range),
                    None => call.clone(),
                };
                link.send(&call, &mut self.budget).await?
            }
            Place::Elsewhere(client, url, attempt) => {
                let limits = &self.shared.inner.options.limits;
                loop {
                    match get_elsewhere(client, url, attempt, limits, range.as_deref()).await {
                        Ok(answer) => break answer,
                        Err(error) => self.budget.again(error).await?,
                    }
                }
            }
        };
        self.skip = start_of(&answer, self.offset)?;
        if self.offset == 0
            && let Some(length) = answer.length().filter(|length| *length > self.size)
        {
            let reason = format!("the answer has {length} bytes, and the blob {}", self.size);
            return Err(Error::invalid(&answer.attempt, reason));
        }
        self.answer = Some(answer);
        Ok(())
    }
}

/// How much of an answer comes before what was asked for.
fn start_of(answer: &Answer, offset: u64) -> Result<u64, Error> {
    let range: Option<&str> = answer.header(CONTENT_RANGE);
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        // All of it: the range was not looked at.
        return Ok(offset);
    }
    let start = range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .and_then(|start| start.trim().parse::<u64>().ok());
    match start {
        Some(start) if start <= offset => Ok(offset - start),
        _ => {
            let reason = format!(
                "asked for what follows byte {offset}, the answer has the range {:?}",
                one_line(range.unwrap_or_default())
            );
            Err(Error::invalid(&answer.attempt, reason))
        }
    }
}

async fn get_elsewhere(
    client: &reqwest::Client,
    url: &Url,
    attempt: &Attempt,
    limits: &crate::Limits,
    range: Option<&str>,
) -> Result<Answer, Error> {
    let mut url = url.clone();
    for _ in 0..10 {
        let mut request = client.get(url.clone()).header(reqwest::header::ACCEPT_ENCODING, "identity");
        if let Some(range) = range {
            request = request.header::<HeaderName, _>(RANGE, range);
        }
        let answer = Answer::of(attempt.clone(), limits, request.send()).await?;
        if !answer.status().is_redirection() {
            return if answer.status().is_success() { Ok(answer) } else { Err(answer.silent()) };
        }
        let next = answer.header(reqwest::header::LOCATION).and_then(|location| url.join(location).ok());
        match next {
            Some(next)
                if matches!(next.scheme(), "http" | "https")
                    && next.username().is_empty()
                    && next.password().is_none() =>
            {
                url = next;
            }
            _ => return Err(Error::invalid(attempt, "the answer sends us to nowhere")),
        }
    }
    Err(Error::invalid(attempt, "stopped after 10 redirects"))
}
