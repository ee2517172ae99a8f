//! A client that sends whatever a test wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buildkit_api_services_control::{SolveRequest, SolveResponse, control_client::ControlClient};
use buildkit_solver_pb::Definition;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::sandbox::Sandbox;

/// How long an answer may take; more is a hang.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Most that a message may have here: more than the daemon takes.
pub const MAX_MESSAGE: usize = 64 << 20;

/// A connection to the daemon.
pub async fn connect(sandbox: &Sandbox) -> Channel {
    Endpoint::from_shared(sandbox.daemon.address())
        .expect("an address")
        .http2_max_header_list_size(16 << 20)
        .connect()
        .await
        .expect("a connection")
}

/// An id that no other build of this program has.
pub fn build_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("build-{:08}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Sends a request to `Control.Solve` and waits for its end.
pub async fn solve_request(channel: &Channel, request: SolveRequest) -> Result<SolveResponse, Status> {
    let mut client = ControlClient::new(channel.clone()).max_encoding_message_size(MAX_MESSAGE);
    let name = request.r#ref.clone();
    tokio::time::timeout(DEADLINE, client.solve(request))
        .await
        .unwrap_or_else(|_| panic!("{name}: no answer"))
        .map(tonic::Response::into_inner)
}

/// Builds a definition without a session.
pub async fn solve(channel: &Channel, name: &str, definition: Definition) -> Result<(), Status> {
    let id = format!("{}-{name}", build_id());
    let request = SolveRequest { r#ref: id, definition: Some(definition), ..SolveRequest::default() };
    solve_request(channel, request).await.map(drop)
}
