//! Generates resolv.conf for containers.
//!
//! The file of the host is the start; what a container cannot reach is taken out, and what the
//! configuration of the daemon says replaces the rest. See `resolv.conf(5)`.
#![forbid(unsafe_code)]

mod conf;
mod server;

pub use conf::ResolvConf;
pub use server::NameServer;

/// Where the resolver configuration of a host is.
pub const DEFAULT_PATH: &str = "/etc/resolv.conf";

/// The configuration that systemd-resolved keeps for those who cannot reach its local server.
pub const SYSTEMD_RESOLVED_PATH: &str = "/run/systemd/resolve/resolv.conf";

/// The file whose servers a container can reach, given the content of [`DEFAULT_PATH`] if there is
/// one. On the network of the host that is always the default; elsewhere a single server
/// 127.0.0.53 means that systemd-resolved knows the real ones.
pub fn source_path(default_content: Option<&[u8]>, host_network: bool) -> &'static str {
    let resolved = NameServer::new(std::net::Ipv4Addr::new(127, 0, 0, 53).into());
    match default_content.map(ResolvConf::parse) {
        Some(conf) if !host_network && conf.name_servers == [resolved] => SYSTEMD_RESOLVED_PATH,
        _ => DEFAULT_PATH,
    }
}
