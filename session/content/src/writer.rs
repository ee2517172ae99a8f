use std::time::Duration;

use buildkit_session::SessionCaller;
use buildkit_session_pb::content as pb;
use buildkit_util_contentutil::{BlobStream, Error};
use buildkit_util_ocispec::Descriptor;
use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use crate::SessionContent;
use crate::daemon::client;
use crate::ingests::signed;
use crate::stream::Chunks;

/// How long another writer of the same blob is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the end of a call is waited for that has nothing more to say.
const END: Duration = Duration::from_secs(5);
/// Longest time between two looks whether it has finished.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Writes one blob into a store of a client.
pub(crate) struct Writer {
    store: SessionContent,
    caller: SessionCaller,
    blob: Descriptor,
    requests: mpsc::Sender<pb::WriteContentRequest>,
    responses: Streaming<pb::WriteContentResponse>,
    offset: u64,
}

impl Writer {
    /// Starts to write, or goes on where somebody stopped; nothing if the blob is there.
    ///
    /// The name of what is under way is the blob's digest, so that an attempt that was interrupted is resumed, and
    /// two writers of one blob do not both transfer it: the later one waits.
    pub(crate) async fn open(
        store: SessionContent,
        caller: SessionCaller,
        blob: &Descriptor,
    ) -> Result<Option<Self>, Error> {
        let started = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            match Self::begin(&store, &caller, blob).await {
                Ok((requests, responses, offset)) => {
                    let (offset, blob) = (offset.min(blob.size), blob.clone());
                    return Ok(Some(Self { store, caller, blob, requests, responses, offset }));
                }
                Err(status) => match status.code() {
                    Code::AlreadyExists => return Ok(None),
                    Code::Unavailable if !caller.closed().is_cancelled() && started.elapsed() < PATIENCE => {
                        tracing::debug!(blob = %blob.digest, "waiting for another writer");
                        tokio::select! {
                            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                            () = caller.closed().cancelled() => {}
                        }
                    }
                    _ => return Err(store.error(&blob.digest, "write", &status)),
                },
            }
        }
    }

    async fn begin(
        store: &SessionContent,
        caller: &SessionCaller,
        blob: &Descriptor,
    ) -> Result<(mpsc::Sender<pb::WriteContentRequest>, Streaming<pb::WriteContentResponse>, u64), Status>
    {
        let (sender, mut receiver) = mpsc::channel(1);
        // Servers answer not before they have a message.
        let first = pb::WriteContentRequest {
            action: pb::WriteAction::Stat.into(),
            r#ref: blob.digest.to_string(),
            total: signed(blob.size),
            expected: blob.digest.to_string(),
            ..pb::WriteContentRequest::default()
        };
        sender.try_send(first).map_err(|_| Status::internal("a new channel is full"))?;
        let messages = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let mut responses = client(caller).write(store.request(messages)).await?.into_inner();
        let first = responses.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("the client ended the call"))?;
        Ok((sender, responses, u64::try_from(first.offset).unwrap_or(0)))
    }

    /// Where the first byte goes that is to be written.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Forgets what somebody wrote before.
    pub(crate) fn restart(&mut self) {
        self.offset = 0;
    }

    /// Writes everything that is missing.
    pub(crate) async fn run(mut self, stream: BlobStream) -> Result<(), Error> {
        match self.transfer(stream).await {
            Ok(()) => Ok(()),
            Err(Failure::Client(status)) if status.code() == Code::AlreadyExists => Ok(()),
            Err(Failure::Client(status)) => {
                let error = self.store.error(&self.blob.digest, "write", &status);
                self.abort().await;
                Err(error)
            }
            Err(Failure::Source(error)) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    async fn transfer(&mut self, stream: BlobStream) -> Result<(), Failure> {
        let mut chunks = Chunks::new(stream);
        while let Some(data) = chunks.next().await.map_err(Failure::Source)? {
            let end = self.offset + data.len() as u64;
            self.exchange(pb::WriteAction::Write, data).await?;
            self.offset = end;
        }
        let response = self.exchange(pb::WriteAction::Commit, Bytes::new()).await?;
        if response.digest != self.blob.digest.as_str() {
            let text = format!("the client stored `{}` instead", response.digest);
            return Err(Failure::Client(Status::data_loss(text)));
        }
        Ok(())
    }

    async fn exchange(
        &mut self,
        action: pb::WriteAction,
        data: Bytes,
    ) -> Result<pb::WriteContentResponse, Failure> {
        let end = signed(self.offset + data.len() as u64);
        let mut request = pb::WriteContentRequest {
            action: action.into(),
            offset: signed(self.offset),
            data,
            ..pb::WriteContentRequest::default()
        };
        if action == pb::WriteAction::Commit {
            request.total = signed(self.blob.size);
            request.expected = self.blob.digest.to_string();
        }
        // If nobody takes it, the answer says why.
        let _ = self.requests.send(request).await;
        let gone = || Failure::Client(Status::unavailable("the client ended the call"));
        let response = self.responses.message().await.map_err(Failure::Client)?.ok_or_else(gone)?;
        if response.offset != end {
            let text = format!("the client is at byte {}, not {end}", response.offset);
            return Err(Failure::Client(Status::data_loss(text)));
        }
        Ok(response)
    }

    /// Lets the client forget what was written. It is gone, or it does so at once.
    pub(crate) async fn abort(self) {
        let Self { store, caller, blob, requests, mut responses, .. } = self;
        // A client that is still about to put away what it has would leave a part of it behind.
        drop(requests);
        let ended = async { while let Ok(Some(_)) = responses.message().await {} };
        if tokio::time::timeout(END, ended).await.is_err() {
            tracing::debug!(blob = %blob.digest, "the client does not end the call");
        }
        drop(responses);
        let request = store.request(pb::AbortRequest { r#ref: blob.digest.to_string() });
        if let Err(status) = client(&caller).abort(request).await {
            tracing::debug!(%status, blob = %blob.digest, "half a blob is left to the client");
        }
    }
}

enum Failure {
    Client(Status),
    Source(Error),
}
