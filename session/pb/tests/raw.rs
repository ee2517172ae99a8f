//! The two shapes of a file-send stream go through one method.

use buildkit_session_pb::filesend::file_send_server::{FileSend, FileSendServer};
use buildkit_session_pb::filesync::{BytesMessage, file_send_client::FileSendClient};
use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

/// Answers each message with the message twice, as one encoding.
struct Doubler;

#[tonic::async_trait]
impl FileSend for Doubler {
    type DiffCopyStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Bytes, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let doubled = request.into_inner().map(|message| message.map(|bytes| bytes.repeat(2).into()));
        Ok(Response::new(Box::pin(doubled)))
    }
}

#[tokio::test]
async fn encoded_messages_pass_unchanged() {
    let mut client = FileSendClient::new(FileSendServer::new(Doubler));
    let sent = ["", "a", &"b".repeat(100_000)].map(|text| BytesMessage { data: text.to_owned().into() });
    let mut answers = client.diff_copy(tokio_stream::iter(sent.clone())).await.unwrap().into_inner();
    for message in sent {
        // Of a field that comes twice the later counts, so the message decodes to itself.
        assert_eq!(answers.next().await.unwrap().unwrap(), message);
    }
    assert!(answers.next().await.is_none());
}
