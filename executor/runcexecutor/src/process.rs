//! One process of the runtime, from its start to its end.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use buildkit_executor::{Error, ProcessIo};
use buildkit_executor_resources::Cgroup;
use buildkit_util_appcontext::{TaskGuard, spawn, spawn_blocking};
use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::tty::Terminal;

/// Bytes that are moved at a time, and that a pipe holds where the system lets it.
const CHUNK: usize = 64 << 10;
const PIPE: usize = 1 << 20;
/// How often a process that must end is killed again: it may not exist yet the first time.
const KILL_AGAIN: Duration = Duration::from_millis(10);
/// When the runtime itself is killed if killing the container did not end it.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);
/// When a process that does not die of SIGKILL is given up.
const LOST: Duration = Duration::from_secs(2);
/// How long readers of output may take once a cancelled process has ended.
const DRAIN: Duration = Duration::from_millis(500);

/// How to end what the runtime runs.
#[derive(Clone, Debug)]
pub(crate) enum Killer {
    /// All processes of a container.
    Container(Cgroup),
    /// The process whose id the runtime writes to this file, if it is in the container's cgroup.
    Process { pid_file: PathBuf, cgroup: Cgroup },
}

impl Killer {
    fn kill(&self) {
        match self {
            Self::Container(cgroup) => drop(cgroup.kill()),
            Self::Process { pid_file, cgroup } => {
                let text = fs::read_to_string(pid_file).unwrap_or_default();
                let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
                // The descriptor is for one process; if it is in the cgroup afterwards, it is ours.
                let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
                if cgroup.processes().contains(&pid) {
                    // It may have ended meanwhile.
                    let _ = pidfd_send_signal(&fd, Signal::KILL);
                }
            }
        }
    }
}

/// What goes on between a process and those who asked for it.
pub(crate) struct Contact {
    pub io: ProcessIo,
    pub tty: bool,
    pub resize: Option<mpsc::Receiver<(u16, u16)>>,
    pub signals: Option<mpsc::Receiver<i32>>,
    pub cancel: CancellationToken,
}

/// How the runtime ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Its exit status, or 128 and the signal that ended it.
    pub status: i32,
    /// Whether that was asked for.
    pub cancelled: bool,
}

/// Runs `command` until it has ended and its output is read.
pub(crate) async fn supervise(command: Command, contact: Contact, killer: Killer) -> Result<Ended, Error> {
    let start = |source| Error::Io { action: "start the runtime".to_owned(), source };
    let Contact { io, tty, resize, signals, cancel } = contact;
    let mut streams =
        if tty { Streams::terminal(command, io) } else { Streams::pipes(command, io) }.map_err(start)?;
    let ended = wait(&mut streams, resize, signals, &cancel, &killer).await?;
    drop(streams.input.take());
    for output in streams.outputs.drain(..) {
        tokio::pin!(output);
        tokio::select! {
            _ = &mut output => {}
            () = cancel.cancelled() => drop(timeout(DRAIN, output).await),
        }
    }
    Ok(ended)
}

async fn wait(
    streams: &mut Streams,
    mut resize: Option<mpsc::Receiver<(u16, u16)>>,
    mut signals: Option<mpsc::Receiver<i32>>,
    cancel: &CancellationToken,
    killer: &Killer,
) -> Result<Ended, Error> {
    let runtime = streams.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let signal_runtime = |signal| {
        // It may have ended meanwhile; it is reaped below only, so the id is still its own.
        runtime.map(|pid| kill_process(pid, signal))
    };
    let mut cancelled_at = None;
    let mut tick = interval(KILL_AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            status = streams.child.wait() => {
                let status = status.map_err(|source| Error::Io { action: "wait for the runtime".to_owned(), source })?;
                let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                let status = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
                return Ok(Ended { status, cancelled: cancelled_at.is_some() });
            }
            () = cancel.cancelled(), if cancelled_at.is_none() => cancelled_at = Some(Instant::now()),
            _ = tick.tick(), if cancelled_at.is_some() => {
                kill(killer).await;
                let elapsed = cancelled_at.map(|at: Instant| at.elapsed()).unwrap_or_default();
                if elapsed > LOST {
                    tracing::warn!("a process does not end; its step is given up");
                    return Ok(Ended { status: 137, cancelled: true });
                }
                if elapsed > RUNTIME_GRACE {
                    signal_runtime(Signal::KILL);
                }
            }
            size = next(&mut resize) => {
                if let (Some((columns, rows)), Some(terminal)) = (size, &streams.terminal) {
                    if let Err(error) = terminal.resize(columns, rows) {
                        tracing::debug!(%error, "resizing a terminal failed");
                    }
                    signal_runtime(Signal::WINCH);
                }
            }
            signal = next(&mut signals) => match signal.and_then(Signal::from_named_raw) {
                // The runtime could not pass it on, and would leave the process behind.
                Some(Signal::KILL) => kill(killer).await,
                Some(signal) => drop(signal_runtime(signal)),
                None => {}
            },
        }
    }
}

async fn kill(killer: &Killer) {
    let killer = killer.clone();
    // It cannot fail but by a panic, which the next try would repeat.
    let _ = spawn_blocking(move || killer.kill()).await;
}

/// The next value of a channel that may be missing; never returns once it is closed.
async fn next<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    if let Some(receiver) = channel {
        match receiver.recv().await {
            Some(value) => return Some(value),
            None => *channel = None,
        }
    }
    std::future::pending().await
}

struct Streams {
    child: Child,
    input: Option<TaskGuard<()>>,
    outputs: Vec<TaskGuard<()>>,
    terminal: Option<Terminal>,
}

impl Streams {
    fn pipes(mut command: Command, io: ProcessIo) -> std::io::Result<Self> {
        let stdio = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        command
            .stdin(stdio(io.stdin.is_some()))
            .stdout(stdio(io.stdout.is_some()))
            .stderr(stdio(io.stderr.is_some()));
        let mut child = command.spawn()?;
        let input = child.stdin.take().zip(io.stdin).map(|(mut pipe, mut input)| {
            spawn(async move {
                // It ends when the process stops reading.
                let _ = tokio::io::copy(&mut input, &mut pipe).await;
            })
        });
        let mut outputs = Vec::with_capacity(2);
        if let Some((pipe, output)) = child.stdout.take().zip(io.stdout) {
            let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
            outputs.push(spawn(pump(pipe, output)));
        }
        if let Some((pipe, output)) = child.stderr.take().zip(io.stderr) {
            outputs.push(spawn(pump(pipe, output)));
        }
        Ok(Self { child, input, outputs, terminal: None })
    }

    fn terminal(mut command: Command, io: ProcessIo) -> std::io::Result<Self> {
        let (terminal, slave) = Terminal::open()?;
        command
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        let child = command.spawn()?;
        // The command holds the side of the process open; with it the output would never end.
        drop(command);
        let input = io.stdin.map(|input| terminal.pump_input(input));
        let output = io.stdout.unwrap_or_else(|| Box::new(tokio::io::sink()));
        let outputs = vec![terminal.pump_output(output)];
        Ok(Self { child, input, outputs, terminal: Some(terminal) })
    }
}

/// Moves output to its end. When nobody takes it any more it is read all the same, so that the
/// process never waits or dies for that.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: Box<dyn AsyncWrite + Send + Unpin>) {
    let mut buffer = vec![0; CHUNK];
    let mut open = true;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        open = open && to.write_all(&buffer[..length]).await.is_ok();
    }
    let _ = to.shutdown().await;
}
