//! A line that breaks.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buildkit_util_appcontext::{TaskGuard, spawn};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Passes on what a server and its clients say, and breaks the first connections that carry much in one
/// direction. Ends with the value.
pub struct Cutting {
    pub address: SocketAddr,
    pub cuts: Arc<AtomicUsize>,
    _task: TaskGuard<()>,
}

impl Cutting {
    /// Breaks `cuts` connections after `at` bytes.
    pub async fn of(server: &str, at: usize, cuts: usize) -> Self {
        let server: SocketAddr = server.parse().expect("an address");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("free port");
        let address = listener.local_addr().expect("an address");
        let cuts = Arc::new(AtomicUsize::new(cuts));
        let left = cuts.clone();
        let task = spawn(async move {
            let mut open: Vec<TaskGuard<()>> = Vec::new();
            loop {
                let Ok((mut client, _)) = listener.accept().await else { return };
                open.retain(|task| !task.is_finished());
                let left = left.clone();
                open.push(spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.split(), server.split());
                    tokio::select! {
                        () = pass(from_client, to_server, at, &left) => {}
                        () = pass(from_server, to_client, at, &left) => {}
                    }
                }));
            }
        });
        Self { address, cuts, _task: task }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    at: usize,
    left: &AtomicUsize,
) {
    let (mut passed, mut buffer) = (0, vec![0; 64 << 10]);
    while let Ok(len) = from.read(&mut buffer).await {
        if len == 0 || to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
        passed += len;
        let is_cut = |left: usize| left.checked_sub(1);
        if passed >= at && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_cut).is_ok() {
            return;
        }
    }
}
