//! A registry of the machine, for this test alone.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Run, Running, wait_for};

/// A running `docker-registry` (Debian's package of the distribution registry) over plain HTTP on the loopback
/// interface; it ends with the value.
#[derive(Debug)]
pub struct Registry {
    running: Running,
    address: SocketAddr,
    dir: TempDir,
}

impl Registry {
    /// Starts an empty registry.
    ///
    /// # Panics
    /// When the program is not installed or does not answer.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("directory of the registry");
        // Another process can take the port in between; the registry then ends and the next one is tried.
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
            let address = listener.local_addr().expect("address of a listener");
            drop(listener);
            let config = format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{address}\"}}\n",
                dir.path().join("data").display()
            );
            let file = dir.path().join("config.yml");
            fs_err::write(&file, config).expect("configuration of the registry");
            let mut running = Run::new("docker-registry").arg("serve").arg(&file).start();
            let up = wait_for("the registry", Duration::from_secs(60), || match running.ended() {
                Some(_) => Some(false),
                None => answers(address).then_some(true),
            });
            if up {
                return Self { running, address, dir };
            }
        }
        panic!("no registry came up");
    }

    /// `127.0.0.1:PORT`, the first part of image names in it.
    pub fn host(&self) -> String {
        self.address.to_string()
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

/// Whether `GET /v2/` is answered with success.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_whitespace().nth(1) == Some("200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_registries_live_side_by_side() {
        let (one, other) = (Registry::start(), Registry::start());
        assert_ne!(one.host(), other.host());
        assert!(answers(one.address) && answers(other.address));
        let gone = one.address;
        drop(one);
        assert!(!answers(gone) && answers(other.address));
    }
}
