//! A server that gives out tokens for registries.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use buildkit_util_appcontext::spawn_thread;
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::{Authority, PASSWORD, USER};

/// A request for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// `GET`, or `POST` for OAuth.
    pub method: String,
    /// Who asks, if he says so and has the right password.
    pub user: Option<String>,
    /// What is asked for.
    pub service: String,
    /// For which rights, each `repository:NAME:ACTIONS`.
    pub scopes: Vec<String>,
    /// The fields of an OAuth request, such as `grant_type`.
    pub form: BTreeMap<String, String>,
}

/// Gives out tokens as the distribution registry wants them: to [`USER`] for everything, to others for pulling only. It
/// ends with the value.
#[derive(Debug)]
pub struct TokenServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Whose key signs; also the server's if it speaks TLS.
    signer: Authority,
    key: EcdsaKeyPair,
    tls: Option<Arc<ServerConfig>>,
    requests: Mutex<Vec<TokenRequest>>,
    /// Seconds.
    lifetime: AtomicU64,
    refuses_oauth: AtomicBool,
    is_over: AtomicBool,
}

impl TokenServer {
    /// For whom the tokens are.
    pub const SERVICE: &'static str = "tests";
    /// Who signs them.
    pub const ISSUER: &'static str = "token-server";

    /// Starts a server, certified by an authority or over plain HTTP.
    ///
    /// # Panics
    /// When the machine refuses.
    pub fn start(authority: Option<&Authority>) -> Self {
        let signer = authority.cloned().unwrap_or_default();
        let key = signer.server_key_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der());
        let shared = Arc::new(Shared {
            key: key.expect("key of the token server"),
            tls: authority.map(Authority::server),
            signer,
            requests: Mutex::default(),
            lifetime: AtomicU64::new(300),
            refuses_oauth: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
        let address = listener.local_addr().expect("address of a listener");
        let serving = shared.clone();
        let thread = spawn_thread("token server", move || {
            for socket in listener.incoming() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                // A client that leaves, or does not trust the server, is a test of its own.
                let _ = socket.and_then(|socket| serving.serve(socket));
            }
        });
        Self { shared, address, thread: Some(thread.expect("thread of the token server")) }
    }

    /// URL to ask for tokens.
    pub fn realm(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/token", self.address)
    }

    /// File of the certificate that a registry has to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.shared.signer.certificate()
    }

    /// A token without asking.
    ///
    /// # Panics
    /// When a scope is none.
    pub fn issue(&self, user: &str, scopes: &[String]) -> String {
        self.shared.issue(user, scopes)
    }

    /// Takes the requests since the last time.
    pub fn take_requests(&self) -> Vec<TokenRequest> {
        std::mem::take(&mut self.shared.requests.lock())
    }

    /// How long tokens are good for from now on; five minutes at first.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.shared.lifetime.store(lifetime.as_secs(), Ordering::SeqCst);
    }

    /// Refuses to be asked by `POST` from now on, as many servers do.
    pub fn refuse_oauth(&self) {
        self.shared.refuses_oauth.store(true, Ordering::SeqCst);
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        match &self.tls {
            None => self.answer(socket),
            Some(config) => {
                let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(connection, socket);
                self.answer(&mut stream)?;
                stream.conn.send_close_notify();
                stream.flush()
            }
        }
    }

    fn answer(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let mut parts = line.split(' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (mut authorization, mut length) = (None, 0);
        let (method, target) = (method.to_owned(), target.to_owned());
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let (status, answer) = self.decide(&method, &target, authorization.as_deref(), &body);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            answer.len()
        );
        let stream = stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(answer.as_bytes())?;
        stream.flush()
    }

    fn decide(&self, method: &str, target: &str, authorization: Option<&str>, body: &str) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path != "/token" {
            return (404, json!({}));
        }
        let is_oauth = method == "POST";
        let pairs = pairs(if is_oauth { body } else { query });
        let value = |key: &str| pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        let scopes = pairs.iter().filter(|(key, _)| key == "scope");
        let scopes = scopes.flat_map(|(_, scopes)| scopes.split(' ')).filter(|scope| !scope.is_empty());
        let mut request = TokenRequest {
            method: method.to_owned(),
            user: None,
            service: value("service").unwrap_or_default().to_owned(),
            scopes: scopes.map(str::to_owned).collect(),
            form: if is_oauth { pairs.iter().cloned().collect() } else { BTreeMap::new() },
        };
        let said = match (value("grant_type"), authorization.and_then(|text| text.strip_prefix("Basic "))) {
            (Some("password"), _) => {
                Some(format!("{}:{}", value("username").unwrap_or(""), value("password").unwrap_or("")))
            }
            (Some("refresh_token"), _) => value("refresh_token").map(|token| format!("{USER}:{token}")),
            (_, Some(basic)) => STANDARD.decode(basic).ok().and_then(|text| String::from_utf8(text).ok()),
            _ => None,
        };
        let is_right = said.as_deref() == Some(&format!("{USER}:{PASSWORD}"));
        request.user = is_right.then(|| USER.to_owned());
        let user = if is_right { USER } else { "" };
        let scopes = request.scopes.clone();
        self.requests.lock().push(request);
        if is_oauth && self.refuses_oauth.load(Ordering::SeqCst) {
            return (405, json!({}));
        }
        if said.is_some() && !is_right {
            return (401, json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "wrong password" }] }));
        }
        let token = self.issue(user, &scopes);
        let lifetime = self.lifetime.load(Ordering::SeqCst);
        let mut answer = json!({ "access_token": token, "expires_in": lifetime });
        if !is_oauth {
            answer["token"] = json!(token);
        } else if value("access_type") == Some("offline") {
            // What the user is known by from now on.
            answer["refresh_token"] = json!(PASSWORD);
        }
        (200, answer)
    }

    /// A JSON web token for a registry (distribution/spec/auth/jwt.md).
    fn issue(&self, user: &str, scopes: &[String]) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let access: Vec<_> = scopes
            .iter()
            .map(|scope| {
                let (kind, rest) = scope.split_once(':').expect("kind of a scope");
                let (name, actions) = rest.rsplit_once(':').expect("actions of a scope");
                let actions = actions.split(',').filter(|action| !user.is_empty() || *action == "pull");
                json!({ "type": kind, "name": name, "actions": actions.collect::<Vec<_>>() })
            })
            .collect();
        let header =
            json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(self.signer.server_der())] });
        let claims = json!({
            "iss": TokenServer::ISSUER, "aud": TokenServer::SERVICE, "sub": user, "jti": format!("{now}"),
            "iat": now, "nbf": now - 60, "exp": now + self.lifetime.load(Ordering::SeqCst), "access": access,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Keys and values of a query or form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).expect("escape of a query");
                u8::from_str_radix(digits, 16).expect("escape of a query")
            }
            byte => byte,
        });
    }
    String::from_utf8(out).expect("text of a query")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Server, request};
    use crate::registry_options::basic;

    #[test]
    fn requests_are_answered_and_kept() {
        for authority in [None, Some(Authority::new())] {
            let tokens = TokenServer::start(authority.as_ref());
            let server = Server { address: tokens.address, tls: authority.as_ref().map(Authority::client) };
            let ask = |method: &str, query: &str, headers: &[(&str, &str)], body: &str| {
                request(&server, method, query, headers, body.as_bytes()).expect("answers")
            };
            let query = "/token?service=tests&scope=repository%3Aa%2Fb%3Apull,push&scope=repository:c:pull";
            let answer = ask("GET", query, &[("Authorization", &basic())], "");
            assert_eq!(answer.status, 200);
            let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
            let claims = json["token"].as_str().expect("a token").split('.').nth(1).expect("claims");
            let claims: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
            assert_eq!(claims["access"][0]["actions"], json!(["pull", "push"]));
            let seen = tokens.take_requests();
            assert_eq!(seen[0].scopes, ["repository:a/b:pull,push", "repository:c:pull"]);
            assert_eq!(seen[0].user.as_deref(), Some(USER));
            assert!(tokens.take_requests().is_empty());

            let wrong = format!("Basic {}", STANDARD.encode("tester:wrong"));
            assert_eq!(ask("GET", query, &[("Authorization", &wrong)], "").status, 401);
            let form = "grant_type=password&username=tester&password=correct+horse&service=tests&access_type=offline";
            let answer: Value = serde_json::from_slice(&ask("POST", "/token", &[], form).body).expect("JSON");
            assert!(answer["access_token"].is_string() && answer["refresh_token"].is_string());
            tokens.refuse_oauth();
            assert_eq!(ask("POST", "/token", &[], form).status, 405);
            assert_eq!(ask("GET", "/other", &[], "").status, 404);
        }
    }
}
