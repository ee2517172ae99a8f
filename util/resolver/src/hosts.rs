//! Where the requests for an image go: hosts, in their order, and how each is spoken to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Url;

use crate::tls::TlsFiles;
use crate::{Access, RegistryConfig};

/// What docker's registry is called in names of images, and where it is.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// How to speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Https,
    Http,
    /// HTTPS, or HTTP when the host does not speak that.
    Either,
}

/// One host for one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Host and port.
    pub(crate) name: String,
    pub(crate) scheme: Scheme,
    pub(crate) insecure: bool,
    /// Under which name it is configured.
    pub(crate) configured: String,
    /// What stands before the repository's path, without slashes around it.
    pub(crate) prefix: String,
    pub(crate) is_mirror: bool,
}

/// Mirrors in their order, then the registry itself.
pub(crate) fn hosts_of(
    domain: &str,
    registries: &BTreeMap<String, RegistryConfig>,
    access: Access,
    insecure: bool,
) -> Vec<Host> {
    let forced = RegistryConfig { plain_http: Some(true), insecure: Some(true), ..RegistryConfig::default() };
    let none = RegistryConfig::default();
    let config = if insecure { &forced } else { registries.get(domain).unwrap_or(&none) };
    let mut hosts = Vec::new();
    if access == Access::Pull {
        for mirror in &config.mirrors {
            let (name, prefix) = split_mirror(mirror);
            let own = registries.get(&name).unwrap_or(&none);
            hosts.push(Host::new(name.clone(), name, prefix, own, true));
        }
    }
    let name = if domain == DOCKER.0 { DOCKER.1 } else { domain };
    hosts.push(Host::new(name.to_owned(), domain.to_owned(), String::new(), config, false));
    hosts
}

impl Host {
    fn new(
        name: String,
        configured: String,
        prefix: String,
        config: &RegistryConfig,
        is_mirror: bool,
    ) -> Self {
        let is_http = config.plain_http.unwrap_or_else(|| is_local(&name));
        let insecure = config.insecure == Some(true);
        let scheme = match (insecure, is_http) {
            (true, true) => Scheme::Either,
            (false, true) => Scheme::Http,
            (_, false) => Scheme::Https,
        };
        Self { name, scheme, insecure, configured, prefix, is_mirror }
    }

    /// The files for TLS.
    pub(crate) fn tls(&self, registries: &BTreeMap<String, RegistryConfig>) -> TlsFiles {
        let config = registries.get(&self.configured).cloned().unwrap_or_default();
        TlsFiles {
            root_cas: config.root_cas,
            key_pairs: config.key_pairs,
            dirs: config.tls_config_dirs,
            insecure: self.insecure,
        }
    }

    /// The repository as it is called at this host.
    pub(crate) fn repository(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }
}

/// Host and path of a mirror, which may be written as a URL. Its scheme does not count: that is
/// configured for the mirror's host.
fn split_mirror(mirror: &str) -> (String, String) {
    let rest = mirror.split_once("://").map_or(mirror, |(_, rest)| rest);
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    (name.to_owned(), path.trim_matches('/').to_owned())
}

/// Host without port, and without the brackets of IPv6.
pub(crate) fn bare_name(name: &str) -> &str {
    if let Some(rest) = name.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match name.split_once(':') {
        // Two colons are IPv6 without a port.
        Some((_, rest)) if rest.contains(':') => name,
        Some((bare, _)) => bare,
        None => name,
    }
}

/// Whether it is this machine.
pub(crate) fn is_local(name: &str) -> bool {
    let bare = bare_name(name);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Host and port of a URL as names of registries have them.
pub(crate) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Whether two URLs are of one server: scheme, host and port.
pub(crate) fn same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Connections to a host and to those that it sends us to.
pub(crate) struct Connections {
    /// To the host itself.
    pub(crate) own: reqwest::Client,
    /// To others.
    pub(crate) other: reqwest::Client,
    /// It was found to speak HTTP only.
    pub(crate) is_plain: AtomicBool,
}

impl Connections {
    /// The scheme to use now.
    pub(crate) fn scheme(&self, host: &Host) -> &'static str {
        match host.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::Either if self.is_plain.load(Ordering::Relaxed) => "http",
            Scheme::Either => "https",
        }
    }
}

pub(crate) type SharedConnections = Arc<Connections>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_with_and_without_paths() {
        for (mirror, name, path) in [
            ("hub.docker.io", "hub.docker.io", ""),
            ("yourmirror.local:5000/proxy.docker.io", "yourmirror.local:5000", "proxy.docker.io"),
            ("https://url/", "url", ""),
            ("https://url/path/", "url", "path"),
            ("[::1]:5000/a/b", "[::1]:5000", "a/b"),
        ] {
            assert_eq!(split_mirror(mirror), (name.to_owned(), path.to_owned()), "{mirror}");
        }
    }

    #[test]
    fn this_machine() {
        for (name, expect) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.0.1", true),
            ("::1", true),
            ("[::1]", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_local(name), expect, "{name}");
        }
    }

    #[test]
    fn order_and_schemes() {
        let mirror = RegistryConfig { plain_http: Some(true), ..RegistryConfig::default() };
        let docker =
            RegistryConfig { mirrors: vec!["m:1/p".to_owned(), "n".to_owned()], ..RegistryConfig::default() };
        let registries =
            BTreeMap::from([("m:1".to_owned(), mirror), ("docker.io".to_owned(), docker.clone())]);
        let found = hosts_of("docker.io", &registries, Access::Pull, false);
        let found: Vec<_> = found.iter().map(|host| (host.name.as_str(), host.scheme)).collect();
        assert_eq!(
            found,
            [("m:1", Scheme::Http), ("n", Scheme::Https), ("registry-1.docker.io", Scheme::Https)]
        );
        // Nothing is pushed to a mirror, and what is forced has none.
        assert_eq!(hosts_of("docker.io", &registries, Access::Push, false).len(), 1);
        let forced = hosts_of("docker.io", &registries, Access::Pull, true);
        assert_eq!((forced.len(), forced[0].scheme), (1, Scheme::Either));
        let local = hosts_of("localhost:5000", &registries, Access::Pull, false);
        assert_eq!((local[0].scheme, local[0].insecure), (Scheme::Http, false));
        let config = RegistryConfig { plain_http: Some(false), ..RegistryConfig::default() };
        let registries = BTreeMap::from([("localhost:5000".to_owned(), config)]);
        assert_eq!(hosts_of("localhost:5000", &registries, Access::Pull, false)[0].scheme, Scheme::Https);
    }
}
