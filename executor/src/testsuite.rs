//! What every executor has to do, for the tests of implementations.
//!
//! The root file system that callers provide has `/bin/sh` with `cat`, `echo`, `sleep`, `test` and
//! `touch`, and a writable `/tmp`.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use buildkit_snapshot::Mount;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

use crate::{ContainerMount, Error, ExecMount, Executor, Meta, ProcessIo, ProcessSpec, RunRequest};

/// Collects what a process writes. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// What was written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `text` was written.
    pub async fn wait_for(&self, text: &str) {
        while !self.text().contains(text) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A shell script as a process, with its standard output; standard error goes there too.
pub fn script(text: &str) -> (ProcessSpec, Output) {
    let output = Output::default();
    let meta = Meta {
        args: ["/bin/sh", "-c", text].map(str::to_owned).into(),
        env: vec!["PATH=/bin:/usr/bin".to_owned()],
        cwd: "/".to_owned(),
        ..Meta::default()
    };
    let io = ProcessIo {
        stdin: None,
        stdout: Some(Box::new(output.clone())),
        stderr: Some(Box::new(output.clone())),
    };
    (ProcessSpec { meta, io, resize: None, signals: None }, output)
}

fn request(id: &str, root: &Mount, text: &str) -> (RunRequest, Output) {
    let (process, output) = script(text);
    let (id, root, cancel) = (id.to_owned(), root.clone(), CancellationToken::new());
    (RunRequest { id, root, mounts: Vec::new(), process, started: None, cancel }, output)
}

/// Runs all checks. `prefix` is of letters and digits and makes ids of containers unique.
///
/// # Panics
/// When the executor does not keep the contract.
pub async fn run(executor: &dyn Executor, root: &Mount, prefix: &str) {
    let id = |name: &str| format!("{prefix}{name}");
    ends_are_reported(executor, root, &id("ends")).await;
    bad_requests_are_refused(executor, root).await;
    mounts_are_made(executor, root, &id("mounts")).await;
    cancelling_ends_it(executor, root, &id("cancel")).await;
    dropping_ends_it(executor, root, &id("drop")).await;
    processes_join(executor, root, &id("join")).await;
}

async fn ends_are_reported(executor: &dyn Executor, root: &Mount, id: &str) {
    // The same id again and again: nothing of the last container is left.
    for code in [0, 1, 3, 42] {
        let (run, output) = request(id, root, &format!("echo out; cat; exit {code}"));
        let exit = executor.run(run).await.expect("runs to its end");
        assert_eq!((exit.code, output.text().as_str(), exit.oom_killed), (code, "out\n", false));
    }
    let (mut run, output) = request(id, root, "cat");
    run.process.io.stdin = Some(Box::new(io::Cursor::new(b"input".to_vec())));
    assert_eq!(executor.run(run).await.expect("runs to its end").code, 0);
    assert_eq!(output.text(), "input");
}

async fn bad_requests_are_refused(executor: &dyn Executor, root: &Mount) {
    for id in ["", "..", "a/b", "a b"] {
        let (run, _) = request(id, root, "true");
        assert!(matches!(executor.run(run).await, Err(Error::Invalid(_))), "id `{id}`");
    }
    let (mut run, _) = request("noargs", root, "true");
    run.process.meta.args.clear();
    assert!(matches!(executor.run(run).await, Err(Error::Invalid(_))), "no arguments");
    let (process, _) = script("true");
    let result = executor.exec("unknown", process, CancellationToken::new()).await;
    assert!(matches!(result, Err(Error::NotRunning(_))), "{result:?}");
}

async fn mounts_are_made(executor: &dyn Executor, root: &Mount, id: &str) {
    let (mut run, output) =
        request(id, root, "touch /scratch/x && echo written; touch /fixed/x || echo refused");
    let tmpfs = |dest: &str, readonly| ExecMount {
        source: ContainerMount::Tmpfs { size: 1 << 20 },
        dest: dest.to_owned(),
        readonly,
    };
    run.mounts = vec![tmpfs("/scratch", false), tmpfs("/fixed", true)];
    executor.run(run).await.expect("runs to its end");
    let text = output.text();
    assert!(text.contains("written") && text.contains("refused"), "{text}");
    let (run, output) = request(id, root, "test -e /scratch -o -e /fixed || echo clean");
    executor.run(run).await.expect("runs to its end");
    assert_eq!(output.text(), "clean\n", "mount points that were made are removed");
}

async fn cancelling_ends_it(executor: &dyn Executor, root: &Mount, id: &str) {
    let (run, output) = request(id, root, "echo go; sleep 1000");
    let cancel = run.cancel.clone();
    let stop = async {
        output.wait_for("go").await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(executor.run(run), stop);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    let (run, _) = request(id, root, "true");
    run.cancel.cancel();
    let result = executor.run(run).await;
    assert!(matches!(result, Err(Error::Cancelled)), "cancelled before its start: {result:?}");
}

async fn dropping_ends_it(executor: &dyn Executor, root: &Mount, id: &str) {
    let (run, output) = request(id, root, "echo go; sleep 1000");
    tokio::select! {
        result = executor.run(run) => panic!("it sleeps: {result:?}"),
        () = output.wait_for("go") => {}
    }
    // The id is free again once nothing is left.
    loop {
        let (run, _) = request(id, root, "true");
        match executor.run(run).await {
            Ok(exit) => break assert_eq!(exit.code, 0),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn processes_join(executor: &dyn Executor, root: &Mount, id: &str) {
    let (mut run, _) = request(id, root, "sleep 1000");
    let (started, is_started) = tokio::sync::oneshot::channel();
    run.started = Some(started);
    let cancel = run.cancel.clone();
    let join = async {
        is_started.await.expect("it starts");
        let (process, output) = script("echo joined; exit 7");
        let exit = executor.exec(id, process, CancellationToken::new()).await.expect("joins");
        assert_eq!((exit.code, output.text().as_str()), (7, "joined\n"));
        let (process, output) = script("echo go; sleep 1000");
        let stop = CancellationToken::new();
        let cancel_it = async {
            output.wait_for("go").await;
            stop.cancel();
        };
        let (result, ()) = tokio::join!(executor.exec(id, process, stop.clone()), cancel_it);
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(executor.run(run), join);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
}
