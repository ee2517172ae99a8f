use std::path::{Path, PathBuf};
use std::time::SystemTime;

use buildkit_executor::{Error, HostEntry};
use buildkit_util_resolvconf::{NameServer, ResolvConf, source_path};
use fs_err as fs;
use parking_lot::Mutex;

/// Host name of containers that ask for none.
pub const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// Servers, domains and options from the configuration of the daemon; an empty list leaves those of
/// the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses of servers.
    pub nameservers: Vec<String>,
    /// Options such as `ndots:2`.
    pub options: Vec<String>,
    /// Search domains.
    pub search_domains: Vec<String>,
}

/// The text of `/etc/hosts` in a container.
pub fn hosts_text(hostname: &str, extra: &[HostEntry]) -> String {
    let hostname = if hostname.is_empty() { DEFAULT_HOSTNAME } else { hostname };
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for entry in extra {
        text.push_str(&format!("{}\t{}\n", entry.ip, entry.host));
    }
    text
}

/// The files below `/etc` that containers get from the host, kept in one directory and shared by
/// all containers that need no others. They are replaced, never changed: a container that runs
/// keeps the version that it started with.
#[derive(Debug)]
pub struct EtcFiles {
    directory: PathBuf,
    servers: Vec<NameServer>,
    dns: DnsConfig,
    /// What `resolv.conf` and `resolv-host.conf` were made of. A gate: one container writes them, those that
    /// start with it wait for that.
    made: Mutex<[Option<Source>; 2]>,
}

/// State of the file that a version was made of: path, time of change and size if it exists.
type Source = (PathBuf, Option<(SystemTime, u64)>);

impl EtcFiles {
    /// Keeps files in `directory`, which exists and belongs to the caller.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a configured server is no address; [`Error::Io`].
    pub fn open(directory: &Path, dns: DnsConfig) -> Result<Self, Error> {
        let servers = dns.nameservers.iter().map(|server| {
            server.parse().map_err(|_| Error::Invalid(format!("Name server `{server}` is not an IP address")))
        });
        let servers = servers.collect::<Result<_, _>>()?;
        let files = Self { directory: directory.to_owned(), servers, dns, made: Mutex::new([None, None]) };
        files.replace("hosts", &hosts_text("", &[]))?;
        Ok(files)
    }

    /// The file for `/etc/hosts` of a container without names of its own.
    pub fn hosts(&self) -> PathBuf {
        self.directory.join("hosts")
    }

    /// The file for `/etc/resolv.conf`, as of the state of the host now.
    pub fn resolv_conf(&self, host_network: bool) -> Result<PathBuf, Error> {
        let name = if host_network { "resolv-host.conf" } else { "resolv.conf" };
        let default = fs::read(buildkit_util_resolvconf::DEFAULT_PATH).ok();
        let path = PathBuf::from(source_path(default.as_deref(), host_network));
        let state = fs::metadata(&path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        let source = (path, state);
        let mut made = self.made.lock();
        let slot = &mut made[usize::from(host_network)];
        if slot.as_ref() != Some(&source) {
            let content = fs::read(&source.0).unwrap_or_default();
            self.replace(name, &self.generate(&content, host_network))?;
            *slot = Some(source);
        }
        Ok(self.directory.join(name))
    }

    fn generate(&self, host_content: &[u8], host_network: bool) -> String {
        let mut conf = ResolvConf::parse(host_content);
        if !self.servers.is_empty() {
            conf.set_name_servers(self.servers.clone());
        }
        if !self.dns.search_domains.is_empty() {
            conf.set_search(self.dns.search_domains.iter().cloned());
        }
        if !self.dns.options.is_empty() {
            conf.set_options(self.dns.options.clone());
        }
        if !host_network || conf.name_servers.is_empty() {
            conf.for_own_network();
        }
        conf.generate()
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        // On a full disk what is there from before still serves.
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        let temporary = self.directory.join(format!("{name}.tmp"));
        let result = fs::write(&temporary, text).and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&temporary, PermissionsExt::from_mode(0o644))?;
            fs::rename(&temporary, &path)
        });
        result.map_err(|source| Error::Io { action: format!("write `{}`", path.display()), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let extra = [HostEntry { host: "a.b".into(), ip: "10.0.0.1".parse().expect("address") }];
        assert_eq!(
            hosts_text("", &extra),
            "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\ta.b\n"
        );
        assert!(hosts_text("h", &[]).starts_with("127.0.0.1\tlocalhost h\n"));
    }

    #[test]
    fn files_are_made_once_and_follow_the_configuration() {
        let dir = tempfile::tempdir().expect("directory");
        let dns = DnsConfig {
            nameservers: vec!["10.1.2.3".into()],
            options: vec!["ndots:3".into()],
            search_domains: vec!["example.com".into()],
        };
        let files = EtcFiles::open(dir.path(), dns).expect("open");
        let path = files.resolv_conf(false).expect("file");
        let expect = "nameserver 10.1.2.3\nsearch example.com\noptions ndots:3\n";
        assert!(std::fs::read_to_string(&path).expect("read").starts_with(expect));
        std::fs::write(&path, "kept").expect("write");
        assert_eq!(files.resolv_conf(false).expect("file"), path);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "kept");
        assert_ne!(files.resolv_conf(true).expect("file"), path);
        assert!(files.hosts().exists());
        let bad = DnsConfig { nameservers: vec!["nine".into()], ..DnsConfig::default() };
        assert!(EtcFiles::open(dir.path(), bad).is_err());
    }
}
