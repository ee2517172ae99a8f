use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::NameServer;

/// Servers for containers when no other is known: public ones, as users of the original expect.
const FALLBACK: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844)),
];

/// The content of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers in the order in which they are asked.
    pub name_servers: Vec<NameServer>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options such as `ndots:2`.
    pub options: Vec<String>,
    /// Lines that mean something else, as they are.
    pub other: Vec<String>,
    /// Whether the servers come from the configuration of the daemon and stay whatever they are.
    servers_fixed: bool,
}

impl ResolvConf {
    /// Reads what resolvers read: unknown lines are kept, wrong servers are left out.
    pub fn parse(content: &[u8]) -> Self {
        let mut conf = Self::default();
        for line in String::from_utf8_lossy(content).lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let fields: Vec<&str> = line.split_whitespace().collect();
            let Some((first, values)) = fields.split_first() else { continue };
            let owned = || values.iter().map(|value| (*value).to_owned());
            match *first {
                "nameserver" => conf.name_servers.extend(values.first().and_then(|value| value.parse().ok())),
                // Only the last of them counts; `domain` is an old name of `search`.
                "domain" | "search" if !values.is_empty() => conf.search = owned().collect(),
                "options" => conf.options.extend(owned()),
                "domain" | "search" => {}
                _ => conf.other.push(line.to_owned()),
            }
        }
        conf
    }

    /// Replaces the servers; [`for_own_network`](Self::for_own_network) leaves them alone then.
    pub fn set_name_servers(&mut self, servers: Vec<NameServer>) {
        self.name_servers = servers;
        self.servers_fixed = true;
    }

    /// Replaces the search domains; the root domain is left out.
    pub fn set_search(&mut self, domains: impl IntoIterator<Item = String>) {
        self.search = domains.into_iter().filter(|domain| domain != ".").collect();
    }

    /// Replaces the options.
    pub fn set_options(&mut self, options: Vec<String>) {
        self.options = options;
    }

    /// Makes the configuration fit for a network namespace that is not the host's: loopback servers
    /// are out of reach there, and with none left public ones are used.
    pub fn for_own_network(&mut self) {
        if self.servers_fixed {
            return;
        }
        self.name_servers.retain(|server| !server.address.is_loopback());
        if self.name_servers.is_empty() {
            self.name_servers = FALLBACK.into_iter().map(NameServer::new).collect();
        }
    }

    /// The text of the file.
    pub fn generate(&self) -> String {
        let mut text = String::new();
        for server in &self.name_servers {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "nameserver {server}");
        }
        for (key, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _ = writeln!(text, "{key} {}", values.join(" "));
            }
        }
        for line in &self.other {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, own_network: bool, expect: &str) {
        let mut conf = ResolvConf::parse(input.as_bytes());
        if own_network {
            conf.for_own_network();
        }
        assert_eq!(conf.generate(), expect, "{input:?}");
    }

    #[test]
    fn files() {
        let fallback = "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n";
        check("", false, "");
        check("", true, fallback);
        check("nameserver 127.0.0.1\nnameserver ::1\n", true, fallback);
        check("nameserver 127.0.0.1\n", false, "nameserver 127.0.0.1\n");
        check(
            "# c\n;d\ndomain old\nsearch a b\n  nameserver\t10.0.0.1 x\noptions ndots:2\noptions edns0\nsortlist 1.2.3.4\n\
             nameserver bad\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nsearch\n",
            true,
            "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a b\noptions ndots:2 edns0\nsortlist 1.2.3.4\n",
        );
    }

    #[test]
    fn configured_values_win() {
        let mut conf = ResolvConf::parse(b"nameserver 1.1.1.1\nsearch a\noptions b\n");
        conf.set_name_servers(vec!["127.0.0.1".parse().expect("address")]);
        conf.set_search(["x".to_owned(), ".".to_owned()]);
        conf.set_options(vec!["ndots:1".to_owned()]);
        conf.for_own_network();
        assert_eq!(conf.generate(), "nameserver 127.0.0.1\nsearch x\noptions ndots:1\n");
    }

    #[test]
    fn systemd_resolved_is_detected() {
        use crate::{DEFAULT_PATH, SYSTEMD_RESOLVED_PATH, source_path};
        let stub = b"nameserver 127.0.0.53\noptions edns0\n".as_slice();
        assert_eq!(source_path(Some(stub), false), SYSTEMD_RESOLVED_PATH);
        assert_eq!(source_path(Some(stub), true), DEFAULT_PATH);
        assert_eq!(source_path(Some(b"nameserver 127.0.0.53\nnameserver 1.1.1.1"), false), DEFAULT_PATH);
        assert_eq!(source_path(None, false), DEFAULT_PATH);
    }
}
