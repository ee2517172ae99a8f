//! Sessions with stores, and calls that say what they like.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use buildkit_session_content::{ContentService, STORE_ID_HEADER};
use buildkit_session_pb::content::content_client::ContentClient;
use buildkit_session_pb::content::{WriteAction, WriteContentRequest, WriteContentResponse};
use buildkit_session_testutil::SessionPair;
use buildkit_util_cachedigest::Digest;
use buildkit_util_contentutil::{ContentStore, Expected};
use buildkit_util_ocispec::Descriptor;
use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

pub async fn open<const N: usize>(stores: [(&str, Arc<dyn ContentStore>); N]) -> SessionPair {
    let stores: BTreeMap<_, _> = stores.into_iter().map(|(name, store)| (name.to_owned(), store)).collect();
    SessionPair::open(|server| server.allow(ContentService::new(stores).service(), ContentService::METHODS))
        .await
}

/// Bytes that do not repeat at any size that matters.
pub fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

pub fn add(store: &dyn ContentStore, content: &[u8]) -> Descriptor {
    let mut ingester = store.ingest(Expected::default()).expect("ingest");
    ingester.write_all(content).expect("write");
    ingester.commit().expect("commit");
    Descriptor::of("x", content)
}

pub fn stored(store: &dyn ContentStore, digest: &Digest) -> Vec<u8> {
    let mut content = Vec::new();
    store.open(digest, None).expect("is there").read_to_end(&mut content).expect("reads");
    content
}

pub fn raw(session: &SessionPair) -> ContentClient<Channel> {
    ContentClient::new(session.caller().channel())
}

pub fn request<T>(store: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(STORE_ID_HEADER, store.parse().expect("a header"));
    request
}

/// A call that writes, one message and its answer at a time.
pub struct Call {
    requests: mpsc::UnboundedSender<WriteContentRequest>,
    responses: Result<Streaming<WriteContentResponse>, Status>,
}

impl Call {
    pub async fn open(session: &SessionPair, store: &str) -> Self {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let messages = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let responses = raw(session).write(request(store, messages)).await;
        Self { requests, responses: responses.map(tonic::Response::into_inner) }
    }

    pub async fn send(
        &mut self,
        action: i32,
        name: &str,
        total: i64,
        expected: &str,
        offset: i64,
        data: &str,
    ) -> Result<WriteContentResponse, Status> {
        let request = WriteContentRequest {
            action,
            r#ref: name.to_owned(),
            total,
            expected: expected.to_owned(),
            offset,
            data: Bytes::copy_from_slice(data.as_bytes()),
            ..WriteContentRequest::default()
        };
        let _ = self.requests.send(request);
        let responses = self.responses.as_mut().map_err(|status| status.clone())?;
        Ok(responses.message().await?.expect("an answer"))
    }

    pub async fn stat(
        &mut self,
        name: &str,
        total: i64,
        expected: &str,
    ) -> Result<WriteContentResponse, Status> {
        self.send(WriteAction::Stat.into(), name, total, expected, 0, "").await
    }

    pub async fn write(&mut self, offset: i64, data: &str) -> Result<WriteContentResponse, Status> {
        self.send(WriteAction::Write.into(), "", 0, "", offset, data).await
    }

    /// Ends the call and waits until the other side has ended it too.
    pub async fn finish(self) {
        drop(self.requests);
        let mut responses = self.responses.expect("was opened");
        while responses.message().await.expect("ends well").is_some() {}
    }
}
