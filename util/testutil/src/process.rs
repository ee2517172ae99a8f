//! Programs that run under a deadline, with their output in files.

use std::{
    ffi::OsStr,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use fs_err::File;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait_for;

/// How long a program may run unless the test says otherwise.
const DEADLINE: Duration = Duration::from_secs(120);

/// A program to run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Vec<u8>,
    deadline: Duration,
}

impl Run {
    /// A program by its path, or by a name to look up.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), stdin: Vec::new(), deadline: DEADLINE }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs in this directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What the program reads; nothing by default.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long it may run; two minutes by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it does not start, or does not end within its deadline.
    pub fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts the program.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(mut self) -> Running {
        let dir = tempfile::tempdir().expect("directory for the output of a program");
        fs_err::write(dir.path().join("stdin"), &self.stdin).expect("write what a program reads");
        let open =
            |name: &str| File::create(dir.path().join(name)).expect("file for the output of a program");
        let stdin = File::open(dir.path().join("stdin")).expect("file that a program reads");
        let what = format!("{:?}", self.command);
        self.command.stdin(Stdio::from(stdin.into_file()));
        self.command.stdout(Stdio::from(open("stdout").into_file()));
        self.command.stderr(Stdio::from(open("stderr").into_file()));
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{what} did not start: {error}"));
        Running { child, what, deadline: self.deadline, dir }
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    deadline: Duration,
    dir: TempDir,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output until now.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it wrote to standard error until now.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill_process(pid(&self.child), signal);
        }
    }

    /// Its exit status if it has ended.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("state of a program")
    }

    /// Waits for text in what it writes.
    ///
    /// # Panics
    /// When it ends without, or does not write it within its deadline.
    pub fn wait_for_text(&mut self, text: &str) {
        wait_for(&format!("{text:?} of {}", self.what), self.deadline, || {
            // Asked first, so that what it wrote last is seen.
            let ended = self.child.try_wait().expect("state of a program");
            let output = self.read("stdout") + &self.read("stderr");
            if output.contains(text) {
                return Some(());
            }
            assert!(ended.is_none(), "{} ended without {text:?}:\n{output}", self.what);
            None
        });
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within its deadline.
    pub fn wait(mut self) -> Output {
        let what = format!("the end of {}", self.what);
        let status = wait_for(&what, self.deadline, || self.child.try_wait().expect("state of a program"));
        Output { what: self.what.clone(), status, stdout: self.read("stdout"), stderr: self.read("stderr") }
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs_err::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote, with odd bytes replaced.
    pub stdout: String,
    /// What it wrote to standard error, with odd bytes replaced.
    pub stderr: String,
}

impl Output {
    /// The output of a program that did what it should.
    ///
    /// # Panics
    /// When its exit status is not 0.
    #[track_caller]
    pub fn assert_ok(self) -> Self {
        assert!(
            self.status.success(),
            "{} failed: {}\n{}\n{}",
            self.what,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// The output of a program that refused or failed by itself.
    ///
    /// # Panics
    /// When its exit status is 0, or a signal ended it.
    #[track_caller]
    pub fn assert_fails(self) -> Self {
        assert!(
            !self.status.success() && self.status.signal().is_none(),
            "{} did not fail: {}\n{}\n{}",
            self.what,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Both outputs, for messages that may be in either.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_input_pass() {
        let output =
            Run::new("sh").args(["-c", "cat; echo err >&2; exit 3"]).stdin("in").run().assert_fails();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("in", "err\n"));
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn signals_reach_the_program() {
        let script = "trap 'echo caught; exit 0' INT; echo ready; while :; do sleep 0.05; done";
        let mut running = Run::new("sh").args(["-c", script]).start();
        running.wait_for_text("ready");
        running.signal(Signal::INT);
        assert_eq!(running.wait().assert_ok().stdout, "ready\ncaught\n");
    }

    #[test]
    #[should_panic(expected = "the end of")]
    fn a_program_that_hangs_is_killed() {
        Run::new("sleep").arg("1000").deadline(Duration::from_millis(50)).run();
    }
}
