//! A registry of the machine, for this test alone.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::http::{Response, Server, request};
use crate::image::{Image, digest_of};
use crate::registry_options::{Config, basic};
use crate::{Authority, PASSWORD, RegistryAuth, RegistryOptions, Run, Running, TokenServer, USER, wait_for};

/// A running `docker-registry` (Debian's package of the distribution registry) on the loopback interface; it ends with
/// the value.
#[derive(Debug)]
pub struct Registry {
    running: Running,
    server: Server,
    dir: TempDir,
    options: RegistryOptions,
    tokens: Option<TokenServer>,
}

impl Registry {
    /// Starts an empty registry over plain HTTP that asks nobody who he is.
    ///
    /// # Panics
    /// When the program is not installed or does not answer.
    pub fn start() -> Self {
        Self::start_with(RegistryOptions::default())
    }

    /// Starts an empty registry.
    ///
    /// # Panics
    /// When a program is not installed or the registry does not answer.
    pub fn start_with(options: RegistryOptions) -> Self {
        let dir = tempfile::tempdir().expect("directory of the registry");
        let tokens = matches!(options.auth, RegistryAuth::Token)
            .then(|| TokenServer::start(options.authority.as_ref()));
        let more = options.config(dir.path(), tokens.as_ref());
        Self::launch(dir, options, tokens, &more, answers)
    }

    /// Starts an empty registry with more of a configuration: `sections` beside those that it has, and `http`
    /// in that of the server, both in YAML's flow style (`tls: {certificate: PATH, key: PATH}`).
    ///
    /// # Panics
    /// When the program is not installed or does not listen.
    pub fn configured(sections: &str, http: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory of the registry");
        let http = if http.is_empty() { String::new() } else { format!(", {http}") };
        let more = Config { http, sections: sections.to_owned() };
        // How it speaks is the caller's business.
        Self::launch(dir, RegistryOptions::default(), None, &more, |server| {
            TcpStream::connect(server.address).is_ok()
        })
    }

    fn launch(
        dir: TempDir,
        options: RegistryOptions,
        tokens: Option<TokenServer>,
        more: &Config,
        is_up: impl Fn(&Server) -> bool,
    ) -> Self {
        let tls = options.authority.as_ref().map(Authority::client);
        // Another process can take the port in between; the registry then ends and the next one is tried.
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
            let address = listener.local_addr().expect("address of a listener");
            drop(listener);
            let config = format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{address}\"{}}}\n{}",
                dir.path().join("data").display(),
                more.http,
                more.sections
            );
            let file = dir.path().join("config.yml");
            fs_err::write(&file, config).expect("configuration of the registry");
            let mut run = Run::new("docker-registry").arg("serve").arg(&file);
            if let Some(authority) = &options.authority {
                run = run.env("SSL_CERT_FILE", authority.certificate());
            }
            let mut running = run.start();
            let server = Server { address, tls: tls.clone() };
            let up = wait_for("the registry", Duration::from_secs(60), || match running.ended() {
                Some(_) => Some(false),
                None => is_up(&server).then_some(true),
            });
            if up {
                return Self { running, server, dir, options, tokens };
            }
        }
        panic!("no registry came up");
    }

    /// `127.0.0.1:PORT`, the first part of image names in it.
    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.options.authority.is_some() { "https" } else { "http" }
    }

    /// The server that gives out tokens, if this registry wants such.
    pub fn tokens(&self) -> Option<&TokenServer> {
        self.tokens.as_ref()
    }

    /// What `buildkitd.toml` has to say for a daemon to use this registry.
    pub fn daemon_config(&self) -> String {
        let access = match &self.options.authority {
            Some(authority) => {
                format!("http = false\nca = [{:?}]", authority.certificate().display().to_string())
            }
            None => "http = true".to_owned(),
        };
        format!("[registry.{:?}]\n{access}\n", self.host())
    }

    /// Writes the file `config.json` with the credentials for this registry into a directory, as `docker login` does.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn log_in(&self, dir: impl AsRef<Path>) {
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = serde_json::json!({ "auths": { self.host(): { "auth": auth } } });
        fs_err::write(dir.as_ref().join("config.json"), config.to_string()).expect("write the credentials");
    }

    /// Pushes an image as `repository:tag` and returns the name to pull it by.
    ///
    /// # Panics
    /// When the registry does not take it.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> String {
        for (digest, blob) in image.plain_blobs() {
            self.push_blob(repository, digest, blob);
        }
        if image.is_index() {
            for descriptor in image.manifests() {
                let digest = digest_of(&descriptor);
                let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
                self.push_manifest(repository, &digest, media_type, image.blob(&digest));
            }
        }
        self.push_manifest(repository, tag, image.media_type(), image.blob(image.digest()));
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Sends a request; `target` is a path such as `/v2/NAME/manifests/latest`.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        request(&self.server, method, target, headers, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error}\n{}", self.log()))
    }

    /// As [`request`](Self::request), by somebody who may do everything in a repository.
    fn authorized(&self, repository: &str, method: &str, target: &str, kind: &str, body: &[u8]) -> Response {
        let authorization = match (self.options.auth, &self.tokens) {
            (RegistryAuth::Password, _) => Some(basic()),
            (_, Some(tokens)) => Some(format!(
                "Bearer {}",
                tokens.issue(USER, &[format!("repository:{repository}:pull,push")])
            )),
            _ => None,
        };
        let mut headers = vec![("Content-Type", kind)];
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        self.request(method, target, &headers, body)
    }

    fn push_blob(&self, repository: &str, digest: &str, blob: &[u8]) {
        let kind = "application/octet-stream";
        let start =
            self.authorized(repository, "POST", &format!("/v2/{repository}/blobs/uploads/"), kind, &[]);
        let location = start.header("location").unwrap_or_else(|| panic!("no upload began: {start:?}"));
        // The place is a URL of this registry, with a query that keeps its state.
        let target = location.split_once("://").map_or(location, |(_, rest)| rest);
        let target = target.find('/').map_or(target, |slash| &target[slash..]);
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}digest={digest}");
        let end = self.authorized(repository, "PUT", &target, kind, blob);
        assert_eq!(end.status, 201, "{digest} was not taken: {end:?}");
    }

    fn push_manifest(&self, repository: &str, reference: &str, media_type: &str, manifest: &[u8]) {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let end = self.authorized(repository, "PUT", &target, media_type, manifest);
        assert_eq!(end.status, 201, "{reference} was not taken: {end:?}");
    }

    /// What it logged until now.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Where it keeps its files, for tests that damage them.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }
}

/// Whether `GET /v2/` is answered with success, or with the question who asks.
fn answers(server: &Server) -> bool {
    request(server, "GET", "/v2/", &[], &[]).is_ok_and(|response| matches!(response.status, 200 | 401))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;

    #[test]
    fn two_registries_live_side_by_side() {
        let (one, other) = (Registry::start(), Registry::start());
        assert_ne!(one.host(), other.host());
        assert!(answers(&one.server) && answers(&other.server));
        let gone = one.server.clone();
        drop(one);
        assert!(!answers(&gone) && answers(&other.server));
    }

    #[test]
    fn what_is_pushed_is_there() {
        let registry = Registry::start();
        let other = Layer::new().file("other", 0o644, "");
        let image = Image::index(&[
            Image::busybox(),
            Image::new("linux/arm/v7", &[other.uncompressed()], serde_json::json!({})),
        ]);
        let name = registry.push(&image, "team/busybox", "v1");
        assert_eq!(name, format!("{}/team/busybox:v1", registry.host()));
        let accept = [("Accept", image.media_type())];
        let index = registry.request("GET", "/v2/team/busybox/manifests/v1", &accept, &[]);
        assert_eq!((index.status, index.header("content-type")), (200, Some(image.media_type())));
        assert_eq!(index.header("docker-content-digest"), Some(image.digest()));
        assert_eq!(index.body, image.blob(image.digest()));
        for descriptor in image.manifests() {
            let digest = digest_of(&descriptor);
            let accept = [("Accept", descriptor["mediaType"].as_str().expect("a media type"))];
            let manifest =
                registry.request("GET", &format!("/v2/team/busybox/manifests/{digest}"), &accept, &[]);
            assert_eq!(manifest.body, image.blob(&digest));
            let layer = digest_of(&image.document(&digest)["layers"][0]);
            let blob = registry.request("GET", &format!("/v2/team/busybox/blobs/{layer}"), &[], &[]);
            assert_eq!((blob.status, blob.body.as_slice()), (200, image.blob(&layer)));
        }
        assert_eq!(registry.request("HEAD", "/v2/team/busybox/manifests/v2", &[], &[]).status, 404);
    }
}
