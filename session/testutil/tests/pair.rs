//! Ends of the client that a daemon must notice.

use std::time::Duration;

use buildkit_session_testutil::SessionPair;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn clients_that_go_are_noticed() {
    for is_silent in [false, true] {
        let mut pair = SessionPair::open(|_| {}).await;
        let caller = pair.caller().clone();
        let mut health = HealthClient::new(caller.channel());
        health.check(HealthCheckRequest::default()).await.expect("healthy");
        if is_silent {
            pair.silence_client();
        } else {
            pair.kill_client();
        }
        pair.closed().await;
        assert!(caller.closed().is_cancelled(), "silent: {is_silent}");
        assert!(pair.manager().get(caller.id(), Duration::ZERO).await.is_err(), "silent: {is_silent}");
        assert!(health.check(HealthCheckRequest::default()).await.is_err(), "silent: {is_silent}");
    }
}
