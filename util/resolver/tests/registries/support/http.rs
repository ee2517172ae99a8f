//! A server whose answers may break off anywhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use buildkit_util_appcontext::{TaskGuard, spawn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// Nothing comes after so many bytes of the body.
    Stall(usize),
    /// So many bytes at a time.
    Slow(usize),
    /// The body goes on for ever, in chunks.
    Endless,
    /// The connection is closed before the answer.
    Silent,
    /// There is no answer.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: End,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), end: End::Whole }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

/// Ends with the value.
pub struct Server {
    pub address: SocketAddr,
    _task: TaskGuard<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("free port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(answer);
        let task = spawn(async move {
            let mut open = Vec::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                open.retain(|task: &TaskGuard<()>| !task.is_finished());
                let answer = answer.clone();
                open.push(spawn(async move {
                    // Clients may leave at any time.
                    let _ = serve(stream, &*answer).await;
                }));
            }
        });
        Self { address, _task: task }
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(Request) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut read = Vec::new();
    let head = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).into_owned();
    let mut body = read.split_off(head + 4);
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    assert!(request.header("transfer-encoding").is_none(), "bodies are announced: {request:?}");
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            // What came of it is seen, as a registry sees it.
            break;
        }
    }
    request.body = body;
    let is_head = request.method == "HEAD";
    let reply = answer(request);
    if reply.end == End::Silent {
        return Ok(());
    }
    if reply.end == End::Hang {
        std::future::pending::<()>().await;
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.end == End::Endless {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        loop {
            stream.write_all(format!("{:x}\r\n{}\r\n", 1 << 16, " ".repeat(1 << 16)).as_bytes()).await?;
        }
    }
    let has_length = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if reply.status != 204 && !has_length {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    if is_head {
        return stream.shutdown().await;
    }
    let cut = match reply.end {
        End::Cut(at) | End::Reset(at) | End::Stall(at) => at.min(reply.body.len()),
        _ => reply.body.len(),
    };
    if let End::Slow(step) = reply.end {
        for chunk in reply.body.chunks(step) {
            stream.write_all(chunk).await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    } else {
        stream.write_all(&reply.body[..cut]).await?;
    }
    match reply.end {
        End::Stall(_) => std::future::pending().await,
        End::Reset(_) => stream.set_zero_linger(),
        _ => stream.shutdown().await,
    }
}
