//! What a registry asks for, and how it is told so.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Authority, TokenServer};

/// The one user that registries and token servers know.
pub const USER: &str = "tester";
/// The password of [`USER`].
pub const PASSWORD: &str = "correct horse";
/// [`PASSWORD`], by bcrypt.
const HASH: &str = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

/// The header of [`USER`] with the password.
pub(crate) fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")))
}

/// Whom a registry lets in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    /// Everybody.
    #[default]
    None,
    /// [`USER`] with [`PASSWORD`], in each request.
    Password,
    /// Who has a token of its [`TokenServer`].
    Token,
}

/// How a registry is set up.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Whom it lets in.
    pub auth: RegistryAuth,
    /// Who certifies it; without, it speaks plain HTTP.
    pub authority: Option<Authority>,
    /// The registry that it fetches from what it has not got, such as `http://127.0.0.1:5000`; it takes no pushes then.
    pub mirror_of: Option<String>,
}

/// Parts of the configuration.
pub(crate) struct Config {
    /// Goes on in `http`.
    pub(crate) http: String,
    /// Stands at the end.
    pub(crate) sections: String,
}

impl RegistryOptions {
    /// The configuration of what is asked for, with its files in `dir`.
    pub(crate) fn config(&self, dir: &Path, tokens: Option<&TokenServer>) -> Config {
        let http = self.authority.as_ref().map(|authority| {
            let (certificate, key) = (authority.server_certificate(), authority.server_key());
            format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display())
        });
        let mut sections = match (self.auth, tokens) {
            (RegistryAuth::Password, _) => {
                let file = dir.join("htpasswd");
                fs_err::write(&file, format!("{USER}:{HASH}\n")).expect("write the passwords");
                format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", file.display())
            }
            (RegistryAuth::Token, Some(tokens)) => format!(
                "auth: {{token: {{realm: \"{}\", service: {}, issuer: {}, rootcertbundle: {}}}}}\n",
                tokens.realm(),
                TokenServer::SERVICE,
                TokenServer::ISSUER,
                tokens.certificate().display()
            ),
            _ => String::new(),
        };
        if let Some(remote) = &self.mirror_of {
            sections.push_str(&format!("proxy: {{remoteurl: \"{remote}\"}}\n"));
        }
        Config { http: http.unwrap_or_default(), sections }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Registry};

    fn manifest(registry: &Registry, headers: &[(&str, &str)]) -> u16 {
        let mut all = vec![("Accept", "application/vnd.oci.image.manifest.v1+json")];
        all.extend(headers);
        registry.request("GET", "/v2/a/b/manifests/v1", &all, &[]).status
    }

    #[test]
    fn passwords_are_asked_for() {
        let options = RegistryOptions { auth: RegistryAuth::Password, ..RegistryOptions::default() };
        let registry = Registry::start_with(options);
        registry.push(&Image::busybox(), "a/b", "v1");
        assert_eq!(manifest(&registry, &[]), 401);
        assert_eq!(manifest(&registry, &[("Authorization", &basic())]), 200);
        let wrong = format!("Basic {}", STANDARD.encode(format!("{USER}:wrong")));
        assert_eq!(manifest(&registry, &[("Authorization", &wrong)]), 401);
        let dir = tempfile::tempdir().expect("temp dir");
        registry.log_in(dir.path());
        let config = fs_err::read_to_string(dir.path().join("config.json")).expect("reads");
        assert!(config.contains(&registry.host()), "{config}");
    }

    #[test]
    fn tokens_are_asked_for_over_tls() {
        let authority = Authority::new();
        let options = RegistryOptions {
            auth: RegistryAuth::Token,
            authority: Some(authority),
            ..RegistryOptions::default()
        };
        let registry = Registry::start_with(options);
        assert_eq!(registry.scheme(), "https");
        registry.push(&Image::busybox(), "a/b", "v1");
        let refused = registry.request("GET", "/v2/a/b/manifests/v1", &[], &[]);
        let challenge = refused.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer realm=\"https://127.0.0.1:"), "{challenge}");
        assert!(challenge.contains("scope=\"repository:a/b:pull\""), "{challenge}");
        let tokens = registry.tokens().expect("has one");
        for (scope, status) in
            [("repository:a/b:pull", 200), ("repository:a/c:pull", 401), ("repository:a/b:push", 401)]
        {
            let bearer = format!("Bearer {}", tokens.issue(USER, &[scope.to_owned()]));
            assert_eq!(manifest(&registry, &[("Authorization", &bearer)]), status, "{scope}");
        }
    }

    #[test]
    fn a_mirror_fetches_what_it_has_not_got() {
        let origin = Registry::start();
        origin.push(&Image::busybox(), "a/b", "v1");
        let mirror_of = Some(format!("{}://{}", origin.scheme(), origin.host()));
        let mirror = Registry::start_with(RegistryOptions { mirror_of, ..RegistryOptions::default() });
        assert_eq!(manifest(&mirror, &[]), 200);
        let push = mirror.request("POST", "/v2/a/b/blobs/uploads/", &[], &[]);
        assert_eq!(push.status, 405);
    }
}
