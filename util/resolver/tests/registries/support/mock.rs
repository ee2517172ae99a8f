//! A registry in memory.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::{Descriptor, media_type};
use parking_lot::Mutex;

use super::http::{Reply, Request, Server};

/// Leaves all to the registry.
pub const NO_SCRIPT: fn(&Request) -> Option<Reply> = |_| None;

/// What is in it.
#[derive(Default)]
struct State {
    /// By repository and digest.
    blobs: HashMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: type and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    requests: Vec<Request>,
    next: usize,
}

pub struct Mock {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Mock {
    /// What `script` does not answer is answered by the registry.
    pub async fn start(script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let server = Server::start(move |request| {
            shared.lock().requests.push(request.clone());
            script(&request).unwrap_or_else(|| shared.lock().answer(&request))
        })
        .await;
        Self { server, state }
    }

    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    pub fn add_blob(&self, repository: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::sha256(bytes).to_string();
        self.state.lock().blobs.insert((repository.to_owned(), digest), bytes.to_vec());
        super::layer(bytes)
    }

    pub fn add_manifest(&self, repository: &str, tag: &str, bytes: &[u8]) -> Descriptor {
        let kind = media_type::OCI_MANIFEST.to_owned();
        let mut state = self.state.lock();
        for object in [tag.to_owned(), Digest::sha256(bytes).to_string()] {
            state.manifests.insert((repository.to_owned(), object), (kind.clone(), bytes.to_vec()));
        }
        Descriptor::of(kind, bytes)
    }

    pub fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        self.state.lock().blobs.get(&(repository.to_owned(), digest.to_owned())).cloned()
    }

    pub fn manifest(&self, repository: &str, object: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.manifests.get(&(repository.to_owned(), object.to_owned())).map(|(_, bytes)| bytes.clone())
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// How many requests there were of a method, with a part in their paths.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.state.lock().requests.iter().filter(|request| request.is(method, part)).count()
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply {
        let Some(path) = request.path.strip_prefix("/v2/") else { return Reply::new(404) };
        for place in ["/manifests/", "/blobs/uploads/", "/blobs/"] {
            if let Some((repository, object)) = path.split_once(place) {
                let (repository, object) = (repository.to_owned(), object.to_owned());
                return match place {
                    "/manifests/" => self.manifests(request, repository, object),
                    "/blobs/" => self.blobs(request, repository, object),
                    _ => self.uploads(request, repository, object),
                };
            }
        }
        Reply::new(404)
    }

    fn manifests(&mut self, request: &Request, repository: String, object: String) -> Reply {
        if request.method == "PUT" {
            let digest = Digest::sha256(&request.body).to_string();
            let kind = request.header("content-type").unwrap_or_default().to_owned();
            for object in [object, digest.clone()] {
                self.manifests.insert((repository.clone(), object), (kind.clone(), request.body.clone()));
            }
            return Reply::new(201).header("Docker-Content-Digest", digest);
        }
        match self.manifests.get(&(repository, object)) {
            None => Reply::new(404)
                .body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
            Some((kind, bytes)) => Reply::new(200)
                .header("Content-Type", kind)
                .header("Docker-Content-Digest", Digest::sha256(bytes).to_string())
                .body(bytes.clone()),
        }
    }

    fn blobs(&mut self, request: &Request, repository: String, digest: String) -> Reply {
        let Some(bytes) = self.blobs.get(&(repository, digest)) else { return Reply::new(404) };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let Some(start) = range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) else {
            return Reply::new(200).body(bytes.clone());
        };
        if start >= bytes.len() {
            return Reply::new(416);
        }
        Reply::new(206)
            .header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[start..])
    }

    fn uploads(&mut self, request: &Request, repository: String, id: String) -> Reply {
        let place = |id: &str, len: usize| {
            Reply::new(202)
                .header("Location", format!("/v2/{repository}/blobs/uploads/{id}?state={len}"))
                .header("Range", format!("0-{}", len.saturating_sub(1)))
        };
        let query = |name: &str| {
            let pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.replace("%3A", ":")).next()
        };
        if request.method == "POST" {
            if let (Some(digest), Some(from)) = (query("mount"), query("from"))
                && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
            {
                self.blobs.insert((repository, digest), bytes);
                return Reply::new(201);
            }
            self.next += 1;
            let id = format!("u{}", self.next);
            self.uploads.insert(id.clone(), Vec::new());
            return place(&id, 0);
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return Reply::new(404) };
        match request.method.as_str() {
            "GET" => Reply { status: 204, ..place(&id, upload.len()) },
            "PATCH" => {
                let start = request.header("content-range").and_then(|range| range.split('-').next());
                if start.and_then(|start| start.parse().ok()) != Some(upload.len()) {
                    return Reply::new(416);
                }
                upload.extend_from_slice(&request.body);
                place(&id, upload.len())
            }
            "PUT" => {
                upload.extend_from_slice(&request.body);
                let digest = query("digest").unwrap_or_default();
                let found = Digest::sha256(&*upload).to_string();
                if found != digest {
                    return Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                let bytes = self.uploads.remove(&id).unwrap_or_default();
                self.blobs.insert((repository, digest.clone()), bytes);
                Reply::new(201).header("Docker-Content-Digest", digest)
            }
            _ => Reply::new(405),
        }
    }
}
