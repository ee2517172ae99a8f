//! Credentials between the two ends of a session.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session_auth::{
    AuthService, CredentialProvider, Credentials, Error, ProviderError, PublicKey, Salt, Token, TokenRequest,
    TokenSeed, credentials, fetch_token, token_authority, verify_token_authority,
};
use buildkit_session_testutil::SessionPair;
use tokio::sync::Notify;

/// Users by host; the secret is the seed as well.
#[derive(Default)]
struct Users {
    users: BTreeMap<&'static str, Credentials>,
    no_tokens: bool,
    hangs: Option<Arc<Notify>>,
}

impl Users {
    fn one(host: &'static str, username: &str, secret: &str) -> Self {
        let user = Credentials { username: username.to_owned(), secret: secret.to_owned() };
        Self { users: BTreeMap::from([(host, user)]), ..Self::default() }
    }
}

#[async_trait]
impl CredentialProvider for Users {
    async fn credentials(&self, host: &str) -> Result<Credentials, ProviderError> {
        if let Some(asked) = &self.hangs {
            asked.notify_one();
            std::future::pending::<()>().await;
        }
        match host {
            "broken" => Err(ProviderError::Store {
                kind: Kind::PermissionDenied,
                source: "key ring is locked".into(),
            }),
            _ => Ok(self.users.get(host).cloned().unwrap_or_default()),
        }
    }

    async fn fetch_token(&self, request: &TokenRequest) -> Result<Token, ProviderError> {
        let token = format!("{}:{}", request.realm, request.scopes.join(" "));
        Ok(Token { token, expires_in: 60, issued_at: 7 })
    }

    async fn token_seed(&self, host: &str) -> Result<TokenSeed, ProviderError> {
        if self.no_tokens {
            return Err(ProviderError::NoTokens);
        }
        Ok(TokenSeed(self.credentials(host).await?.secret.into_bytes()))
    }
}

async fn open(users: Users) -> SessionPair {
    SessionPair::open(|session| session.allow(AuthService::server(Arc::new(users)), AuthService::METHODS))
        .await
}

#[tokio::test]
async fn credentials_and_tokens_go_round() {
    let pair = open(Users::one("reg:5000", "me", "pass")).await;
    let caller = pair.caller();
    let found = credentials(caller, "reg:5000").await.expect("there");
    assert_eq!((found.username.as_str(), found.secret.as_str()), ("me", "pass"));
    assert!(!format!("{found:?}").contains("pass"));
    assert!(credentials(caller, "other").await.expect("none").is_anonymous());
    let error = credentials(caller, "broken").await.expect_err("fails");
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::PermissionDenied, "key ring is locked"));
    let request = TokenRequest {
        host: "reg:5000".to_owned(),
        realm: "https://reg/token".to_owned(),
        scopes: vec!["repository:a:pull".to_owned(), "repository:b:pull".to_owned()],
        ..TokenRequest::default()
    };
    let token = fetch_token(caller, &request).await.expect("fetched");
    assert_eq!(token.token, "https://reg/token:repository:a:pull repository:b:pull");
    assert_eq!((token.expires_in, token.issued_at), (60, 7));
}

#[tokio::test]
async fn only_who_has_the_secret_proves_authority() {
    let (salt, other_salt) = (Salt::random(), Salt::random());
    let pair = open(Users::one("reg", "me", "pass")).await;
    let key = token_authority(pair.caller(), "reg", &salt).await.expect("asked").expect("a key");
    for (case, users, host, salt, expect) in [
        ("the same user in another session", Users::one("reg", "me", "pass"), "reg", &salt, true),
        ("another secret", Users::one("reg", "me", "word"), "reg", &salt, false),
        ("no secret", Users::default(), "reg", &salt, false),
        ("another registry", Users::one("reg", "me", "pass"), "other", &salt, false),
        ("another daemon", Users::one("reg", "me", "pass"), "reg", &other_salt, false),
    ] {
        let other = open(users).await;
        let verified = verify_token_authority(other.caller(), host, salt, &key).await.expect(case);
        assert_eq!(verified, expect, "{case}");
    }
    // All who have no secret have the same key.
    let (a, b) = (open(Users::default()).await, open(Users::one("x", "me", "pass")).await);
    let anonymous = token_authority(a.caller(), "reg", &salt).await.expect("asked").expect("a key");
    assert!(verify_token_authority(b.caller(), "reg", &salt, &anonymous).await.expect("asked"));
}

#[tokio::test]
async fn clients_without_the_service_or_without_tokens() {
    let salt = Salt::random();
    let key = PublicKey::new(&[1; 32]).expect("a key");
    let none = SessionPair::open(|_| {}).await;
    assert!(credentials(none.caller(), "reg").await.expect("none").is_anonymous());
    assert_eq!(token_authority(none.caller(), "reg", &salt).await.expect("none"), None);
    assert!(!verify_token_authority(none.caller(), "reg", &salt, &key).await.expect("none"));
    let error = fetch_token(none.caller(), &TokenRequest::default()).await.expect_err("not offered");
    assert_eq!(error.kind(), Kind::Unimplemented);

    let quiet = open(Users { no_tokens: true, ..Users::one("reg", "me", "pass") }).await;
    assert_eq!(token_authority(quiet.caller(), "reg", &salt).await.expect("none"), None);
    let error = verify_token_authority(quiet.caller(), "reg", &salt, &key).await.expect_err("disabled");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::Unavailable, "client side tokens disabled")
    );
}

#[tokio::test]
async fn b_13_a_client_that_vanishes_fails_the_call() {
    for is_silent in [false, true] {
        let asked = Arc::new(Notify::new());
        let mut pair = open(Users { hangs: Some(asked.clone()), ..Users::default() }).await;
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
        let (answer, ()) = tokio::join!(credentials(&caller, "reg"), vanish);
        assert!(matches!(answer, Err(Error::Client { .. })), "silent: {is_silent}, {answer:?}");
        // Nor is an answer taken from what is left of the session.
        assert!(token_authority(&caller, "reg", &Salt::random()).await.is_err(), "silent: {is_silent}");
    }
}
