//! Connections to agents between the two ends of a session.

mod support;

use std::path::Path;
use std::process::Stdio;

use buildkit_session_sshforward::{Error, check_agent};
use buildkit_session_testutil::{DEADLINE, SessionPair};
use buildkit_util_appcontext::{TaskGuard, spawn};
use support::{agent, keygen, listen, offer, ssh_ok};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;

/// The agent of OpenSSH; it ends with the test.
async fn openssh_agent(socket: &Path) -> tokio::process::Child {
    let agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(socket)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("OpenSSH is installed");
    let up = async {
        while UnixStream::connect(socket).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, up).await.expect("the agent starts");
    agent
}

/// Serves each connection with a future.
fn serve<F>(path: &Path, work: impl Fn(UnixStream) -> F + Send + 'static) -> TaskGuard<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = UnixListener::bind(path).expect("listens");
    spawn(async move {
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.push(spawn(work(stream)));
        }
    })
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_connections_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let own = dir.path().join("agent");
    let _agent = openssh_agent(&own).await;
    let key = keygen(dir.path(), "key", &["-t", "ed25519", "-N", ""]).await;
    ssh_ok(&own, "ssh-add", &["-q", &key.display().to_string()]).await;
    let expect = ssh_ok(&own, "ssh-add", &["-L"]).await;

    let pair = offer([agent("", &[&own], false)]).await;
    let socket = listen(&pair, "default", dir.path());
    assert_eq!(ssh_ok(socket.path(), "ssh-add", &["-L"]).await, expect);

    // All are open before the first asks, and each asks twenty times.
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(UnixStream::connect(socket.path()).await.expect("connects"));
    }
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..20 {
                    stream.write_all(&[0, 0, 0, 1, 11]).await.expect("writes");
                    let length = stream.read_u32().await.expect("answers");
                    let mut answer = vec![0; usize::try_from(length).expect("fits")];
                    stream.read_exact(&mut answer).await.expect("answers");
                    answers.push(answer);
                }
                answers
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(within(task).await.expect("no panic"));
    }
    assert_eq!(all.len(), 1000);
    assert!(all.iter().all(|answer| *answer == all[0] && answer.starts_with(&[12, 0, 0, 0, 1])));
}

#[tokio::test]
async fn each_side_may_finish_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let (reverse, closing) = (dir.path().join("reverse"), dir.path().join("closing"));
    // Answers when all is said.
    let _reverse = serve(&reverse, |mut stream| async move {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.expect("reads");
        text.reverse();
        stream.write_all(&text).await.expect("writes");
    });
    // Does not listen.
    let _closing = serve(&closing, |mut stream| async move {
        stream.write_all(b"bye").await.expect("writes");
    });
    let pair = offer([agent("r", &[&reverse], true), agent("c", &[&closing], true)]).await;

    let socket = listen(&pair, "r", dir.path());
    let mut stream = UnixStream::connect(socket.path()).await.expect("connects");
    let text: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    stream.write_all(&text).await.expect("writes");
    stream.shutdown().await.expect("closes its side");
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.expect("reads");
    answer.reverse();
    assert!(answer == text, "{} of {} bytes", answer.len(), text.len());

    let socket = listen(&pair, "c", dir.path());
    let mut stream = UnixStream::connect(socket.path()).await.expect("connects");
    let mut answer = Vec::new();
    // The program's side is open all the time.
    within(stream.read_to_end(&mut answer)).await.expect("reads");
    assert_eq!(answer, b"bye");
}

#[tokio::test]
async fn agents_that_are_not_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent");
    let listener = serve(&path, |_| async {});
    let pair = offer([agent("a", &[&path], false)]).await;
    check_agent(pair.caller(), "a").await.expect("there");
    for id in ["b", ""] {
        let error = check_agent(pair.caller(), id).await.expect_err("missing");
        assert!(matches!(error, Error::NotFound(_)), "{error}");
    }
    let none = SessionPair::open(|_| {}).await;
    assert!(matches!(check_agent(none.caller(), "a").await, Err(Error::Unsupported)));

    // Connections to an agent that does not exist, or is gone, are closed.
    drop(listener);
    std::fs::remove_file(&path).expect("removed");
    for (pair, id) in [(&pair, "b"), (&pair, "a"), (&none, "a")] {
        let socket = listen(pair, id, dir.path());
        let mut stream = UnixStream::connect(socket.path()).await.expect("connects");
        assert_eq!(within(stream.read_to_end(&mut Vec::new())).await.unwrap_or(0), 0, "{id}");
    }
}

#[tokio::test]
async fn b_13_connections_end_with_the_client() {
    for is_silent in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent");
        let _echo = serve(&path, |mut stream| async move {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
        let mut pair = offer([agent("", &[&path], true)]).await;
        let socket = listen(&pair, "", dir.path());
        let mut stream = UnixStream::connect(socket.path()).await.expect("connects");
        stream.write_all(b"x").await.expect("writes");
        assert_eq!(within(stream.read_u8()).await.expect("echoes"), b'x');
        if is_silent {
            pair.silence_client();
        } else {
            pair.kill_client();
        }
        pair.closed().await;
        let error = check_agent(pair.caller(), "").await.expect_err("the client is gone");
        assert!(matches!(error, Error::Client { .. }), "silent: {is_silent}, {error}");
        // A program in a container does not wait for ever.
        assert_eq!(within(stream.read_to_end(&mut Vec::new())).await.unwrap_or(0), 0, "silent: {is_silent}");
    }
}

#[tokio::test]
async fn a_socket_is_gone_with_its_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent");
    let _hangs = serve(&path, |_stream| std::future::pending());
    let pair = offer([agent("", &[&path], true)]).await;
    let socket = listen(&pair, "", dir.path());
    let inside = socket.path().to_owned();
    let mut stream = UnixStream::connect(&inside).await.expect("connects");
    drop(socket);
    assert!(!inside.exists() && !inside.parent().is_some_and(Path::exists));
    assert_eq!(within(stream.read_to_end(&mut Vec::new())).await.unwrap_or(0), 0);
}
