//! A docker configuration at the other end of a session.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session_auth::{
    AuthService, CredentialProvider, Credentials, ProviderError, Salt, Token, TokenRequest, credentials,
    fetch_token, token_authority, verify_token_authority,
};
use buildkit_session_auth_authprovider::{DockerAuth, DockerConfig, HttpTokens, TokenFetcher};
use buildkit_session_testutil::SessionPair;
use buildkit_util_resolver::{Limits, TokenClient};

const CONFIG: &str = r#"{"auths": {
    "https://index.docker.io/v1/": {"auth": "bWU6cGFzcw=="},
    "idt": {"identitytoken": "secret"},
    "static": {"username": "me", "password": "pass", "registrytoken": "hunter2"}
}}"#;

/// Gives out tokens that tell what it was asked.
struct Fetcher;

#[async_trait]
impl TokenFetcher for Fetcher {
    async fn fetch(&self, request: &TokenRequest, user: &Credentials) -> Result<Token, ProviderError> {
        let token = format!("{} {} {}", request.host, user.username, user.secret);
        Ok(Token { token, ..Token::default() })
    }
}

async fn open(dir: &Path, fetcher: Option<Arc<dyn TokenFetcher>>, no_tokens: &'static str) -> SessionPair {
    std::fs::write(dir.join("config.json"), CONFIG).expect("written");
    let config = DockerConfig::read(dir).expect("read");
    let auth = DockerAuth::new(config, fetcher, |name| {
        (name == "BUILDKIT_NO_CLIENT_TOKEN").then(|| no_tokens.to_owned())
    });
    let auth: Arc<dyn CredentialProvider> = Arc::new(auth);
    SessionPair::open(|session| session.allow(AuthService::server(auth), AuthService::METHODS)).await
}

fn request(host: &str) -> TokenRequest {
    TokenRequest { host: host.to_owned(), ..TokenRequest::default() }
}

#[tokio::test]
async fn credentials_come_from_the_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    let pair = open(dir.path(), None, "").await;
    for (host, username, secret) in [
        ("registry-1.docker.io", "me", "pass"),
        ("idt", "", "secret"),
        ("static", "me", "pass"),
        ("x", "", ""),
    ] {
        let found = credentials(pair.caller(), host).await.expect(host);
        assert_eq!((found.username.as_str(), found.secret.as_str()), (username, secret), "{host}");
    }
}

#[tokio::test]
async fn tokens_of_the_configuration_only_without_a_fetcher() {
    let dir = tempfile::tempdir().expect("a directory");
    let (pair, salt) = (open(dir.path(), None, "0").await, Salt::random());
    let token = fetch_token(pair.caller(), &request("static")).await.expect("there");
    assert_eq!((token.token.as_str(), token.expires_in), ("hunter2", 60));
    assert!(token_authority(pair.caller(), "static", &salt).await.expect("asked").is_some());
    // Daemons are told to ask for the credentials, since this would fail:
    assert_eq!(token_authority(pair.caller(), "idt", &salt).await.expect("asked"), None);
    let error = fetch_token(pair.caller(), &request("idt")).await.expect_err("cannot");
    assert_eq!(error.kind(), Kind::Unimplemented);
    assert!(error.to_string().contains("`idt`"), "{error}");
}

#[tokio::test]
async fn authority_is_of_the_user_not_of_the_session() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let salt = Salt::random();
    let one = open(dir.path(), Some(Arc::new(Fetcher)), "").await;
    let two = open(dir.path(), Some(Arc::new(Fetcher)), "").await;
    // The same password, but the seed of another machine.
    let three = open(other.path(), Some(Arc::new(Fetcher)), "").await;
    let key = token_authority(one.caller(), "idt", &salt).await.expect("asked").expect("a key");
    for (pair, expect) in [(&one, true), (&two, true), (&three, false)] {
        let verified = verify_token_authority(pair.caller(), "idt", &salt, &key).await.expect("asked");
        assert_eq!(verified, expect);
    }
    let anonymous = token_authority(one.caller(), "x", &salt).await.expect("asked").expect("a key");
    assert!(verify_token_authority(three.caller(), "x", &salt, &anonymous).await.expect("asked"));
    let token = fetch_token(one.caller(), &request("registry-1.docker.io")).await.expect("fetched");
    assert_eq!(token.token, "registry-1.docker.io me pass");

    let none = open(dir.path(), Some(Arc::new(Fetcher)), "true").await;
    assert_eq!(token_authority(none.caller(), "idt", &salt).await.expect("asked"), None);
}

/// Answers each request as a realm would, and tells what it was asked.
async fn realm() -> (std::net::SocketAddr, buildkit_util_appcontext::TaskGuard<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("free port");
    let address = listener.local_addr().expect("an address");
    let task = buildkit_util_appcontext::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut read = Vec::new();
            let text = loop {
                if stream.read_buf(&mut read).await.expect("a request") == 0 {
                    break String::new();
                }
                let text = String::from_utf8_lossy(&read).into_owned();
                let is_post = text.starts_with("POST");
                if (is_post && text.contains("client_id")) || (!is_post && text.ends_with("\r\n\r\n")) {
                    break text;
                }
            };
            let (status, body) = if text.contains("password=pass") || text.contains("anonymous") {
                ("200 OK", r#"{"access_token":"made","expires_in":7,"issued_at":"2020-01-01T00:00:00Z"}"#)
            } else {
                ("401 Unauthorized", r#"{"details":"incorrect username or password"}"#)
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.expect("answered");
        }
    });
    (address, task)
}

#[tokio::test]
async fn tokens_are_fetched_where_the_credentials_are() {
    let (address, _task) = realm().await;
    let dir = tempfile::tempdir().expect("a directory");
    let limits = Limits { tries: 1, ..Limits::default() };
    let fetcher = HttpTokens::new(TokenClient::new("test", Default::default(), limits));
    let pair = open(dir.path(), Some(Arc::new(fetcher)), "").await;
    let request = |host: &str, path: &str| TokenRequest {
        client_id: "buildkit-client".to_owned(),
        host: host.to_owned(),
        realm: format!("http://{address}/{path}"),
        service: "x".to_owned(),
        scopes: vec!["repository:a:pull".to_owned()],
    };
    // Nothing goes over plain HTTP to a host that is not the registry's own.
    let error = fetch_token(pair.caller(), &request("registry-1.docker.io", "token")).await;
    let error = error.expect_err("refused");
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().starts_with("failed to fetch oauth token: "), "{error}");
    assert!(error.to_string().contains("over plain HTTP"), "{error}");
    // Who has nothing to hide may ask.
    let token = fetch_token(pair.caller(), &request("x", "anonymous")).await.expect("fetched");
    assert_eq!((token.token.as_str(), token.expires_in), ("made", 7));
    let error = fetch_token(pair.caller(), &request("x", "token")).await.expect_err("not given");
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(error.to_string().contains("failed to fetch anonymous token: "), "{error}");
    assert!(error.to_string().contains("401 Unauthorized: incorrect username or password"), "{error}");
}
