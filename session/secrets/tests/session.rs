//! Secrets between the two ends of a session.

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session_secrets::{Error, MAX_SECRET_SIZE, SecretStore, SecretsService, get_secret};
use buildkit_session_testutil::SessionPair;
use tokio::sync::Notify;

/// Secrets named by their size, and some that are not to be had.
#[derive(Default)]
struct Sizes {
    asked: Arc<Notify>,
}

#[async_trait]
impl SecretStore for Sizes {
    async fn get_secret(&self, id: &str) -> Result<Vec<u8>, Error> {
        match id {
            "hangs" => {
                self.asked.notify_one();
                std::future::pending().await
            }
            "broken" => Err(Error::Read { id: id.to_owned(), source: "no such device".into() }),
            size => size.parse().map(|size| vec![7; size]).map_err(|_| Error::NotFound(id.to_owned())),
        }
    }
}

async fn open(store: Sizes) -> SessionPair {
    SessionPair::open(|session| {
        session.allow(SecretsService::server(Arc::new(store)), SecretsService::METHODS)
    })
    .await
}

#[tokio::test]
async fn secrets_of_all_sizes() {
    let pair = open(Sizes::default()).await;
    assert!(pair.caller().supports("/moby.buildkit.secrets.v1.Secrets/GetSecret"));
    for size in [0, 1, MAX_SECRET_SIZE] {
        let secret = get_secret(pair.caller(), &size.to_string()).await.expect("fits");
        assert!(secret.len() == size && secret.iter().all(|byte| *byte == 7), "{size}");
    }
    for size in [MAX_SECRET_SIZE + 1, 20 << 20] {
        let error = get_secret(pair.caller(), &size.to_string()).await.expect_err("too large");
        assert_eq!(error.kind(), Kind::InvalidArgument, "{size}");
    }
    // The session is as good as before.
    assert_eq!(get_secret(pair.caller(), "3").await.expect("there"), [7; 3]);
}

#[tokio::test]
async fn secrets_that_are_not_there() {
    let pair = open(Sizes::default()).await;
    for id in ["other", ""] {
        let error = get_secret(pair.caller(), id).await.expect_err("missing");
        assert!(matches!(&error, Error::NotFound(missing) if missing == id), "{error}");
    }
    let error = get_secret(pair.caller(), "broken").await.expect_err("broken");
    assert!(!matches!(error, Error::NotFound(_)), "{error}");
    // A client that offers no secrets has none.
    let none = SessionPair::open(|_| {}).await;
    let error = get_secret(none.caller(), "3").await.expect_err("not offered");
    assert!(matches!(error, Error::NotFound(_)), "{error}");
}

#[tokio::test]
async fn b_13_a_client_that_vanishes_fails_the_call() {
    for is_silent in [false, true] {
        let asked = Arc::new(Notify::new());
        let mut pair = open(Sizes { asked: asked.clone() }).await;
        let caller = pair.caller().clone();
        let vanish = async {
            asked.notified().await;
            if is_silent {
                pair.silence_client();
            } else {
                pair.kill_client();
            }
            pair.closed().await;
        };
        let (answer, ()) = tokio::join!(get_secret(&caller, "hangs"), vanish);
        // Not as if the secret were not there: steps may go without one that is optional.
        let error = answer.expect_err("the client is gone");
        assert!(matches!(error, Error::Read { .. }), "silent: {is_silent}, {error}");
    }
}
