//! A reader that is slow for a while, and a peer that sends very many very small messages.

use std::pin::Pin;
use std::time::Duration;

use buildkit_session::{MAX_MESSAGE_SIZE, SessionManager, SessionServer};
use buildkit_session_pb::sshforward::ssh_client::SshClient;
use buildkit_session_pb::sshforward::ssh_server::{Ssh, SshServer};
use buildkit_session_pb::sshforward::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use buildkit_util_appcontext::spawn;
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

const MESSAGES: usize = 100_000;

/// Sends its messages as fast as the connection takes them.
struct Chatter;

#[tonic::async_trait]
impl Ssh for Chatter {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        _: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        _: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        // Yielding makes each message a frame of its own, as Go's servers send them.
        let messages = futures::stream::iter(0..MESSAGES).then(|_| async {
            tokio::task::yield_now().await;
            Ok(BytesMessage { data: vec![1, 2, 3].into() })
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_small_messages_keeps_its_session() {
    let manager = SessionManager::new();
    let mut server = SessionServer::new("").await;
    server.allow(SshServer::new(Chatter), &["CheckAgent", "ForwardAgent"]);
    let (id, headers) = (server.id().to_owned(), server.headers());
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let _client = spawn(async move { server.serve(theirs).await });
    let _daemon = {
        let manager = manager.clone();
        spawn(async move { manager.serve(ours, headers).await })
    };
    let caller = manager.get(&id, Duration::from_secs(60)).await.expect("session appears");
    let mut client = SshClient::new(caller.channel()).max_decoding_message_size(MAX_MESSAGE_SIZE);
    let mut messages =
        client.forward_agent(futures::stream::pending()).await.expect("stream opens").into_inner();
    messages.next().await.expect("first").expect("message");
    // Long enough for the sender to fill whatever it may.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut count = 1;
    while let Some(message) = messages.next().await {
        message.expect("the session lives");
        count += 1;
    }
    assert_eq!(count, MESSAGES);
}
