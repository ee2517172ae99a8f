//! The command line: the part of runc's that those who run containers in the foreground use.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::container::{Exec, Run};
use crate::error::Error;

/// Directory with what is known of containers, unless `--root` says another one.
const DEFAULT_STATE: &str = "/run/buildkit-runc";

/// How `--help` explains it.
pub(crate) const USAGE: &str = "\
Usage: buildkit-runc [OPTIONS] COMMAND

Runs containers as OCI bundles describe them. It understands the part of runc's command line and of the
configuration that BuildKit uses, and refuses everything else.

Commands:
  run [--bundle DIR] [--pid-file FILE] [--no-pivot] [--keep] ID
                           run a container to its end
  exec --process FILE [--pid-file FILE] ID
                           run a further process in it

Options:
  --root DIR               what is known of containers (default: /run/buildkit-runc)
  --log FILE               where errors are written, too
  --log-format text|json   how they are written there (default: text)
  -v, --version            print the version
  -h, --help               print this
";

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Run(Run),
    Exec(Exec),
    Version,
    Help,
}

/// Where errors are told besides the standard error stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub file: Option<PathBuf>,
    pub json: bool,
}

/// The words of a command line, one after the other.
struct Words<I>(I);

impl<I: Iterator<Item = OsString>> Words<I> {
    /// The next option with its value inside, if it has one, or else a plain word.
    fn next(&mut self) -> Result<Option<(String, Option<OsString>)>, Error> {
        let Some(word) = self.0.next() else { return Ok(None) };
        let text = word.to_str().ok_or_else(|| Error::new(format!("{word:?} is no text")))?;
        Ok(Some(match text.split_once('=') {
            Some((option, value)) if text.starts_with('-') => (option.to_owned(), Some(value.into())),
            _ => (text.to_owned(), None),
        }))
    }

    fn value(&mut self, option: &str, inside: Option<OsString>) -> Result<PathBuf, Error> {
        let value = inside.or_else(|| self.0.next());
        value.map(PathBuf::from).ok_or_else(|| Error::new(format!("option {option} needs a value")))
    }
}

/// Reads a command line, without the name of the program. The log is known also when the rest makes no sense.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> (Log, Result<Command, Error>) {
    let mut log = Log::default();
    let command = parse_into(&mut Words(words), &mut log);
    (log, command)
}

fn parse_into(words: &mut Words<impl Iterator<Item = OsString>>, log: &mut Log) -> Result<Command, Error> {
    let mut state = PathBuf::from(DEFAULT_STATE);
    while let Some((word, inside)) = words.next()? {
        match word.as_str() {
            "--root" => state = words.value(&word, inside)?,
            "--log" => log.file = Some(words.value(&word, inside)?),
            "--log-format" => {
                log.json = match words.value(&word, inside)?.to_str() {
                    Some("json") => true,
                    Some("text") => false,
                    _ => return Err(Error::new("unknown log format")),
                };
            }
            "-v" | "--version" => return Ok(Command::Version),
            "-h" | "--help" | "help" => return Ok(Command::Help),
            "run" => return run(words, state).map(Command::Run),
            "exec" => return exec(words, state).map(Command::Exec),
            _ => return Err(unknown(&word)),
        }
    }
    Ok(Command::Help)
}

fn unknown(word: &str) -> Error {
    let what = if word.starts_with('-') { "option" } else { "command" };
    Error::new(format!("unknown {what} {word:?}; see buildkit-runc --help"))
}

fn run(words: &mut Words<impl Iterator<Item = OsString>>, state: PathBuf) -> Result<Run, Error> {
    let (mut bundle, mut pid_file, mut id) = (PathBuf::from("."), None, None);
    let (mut no_pivot, mut keep) = (false, false);
    while let Some((word, inside)) = words.next()? {
        match word.as_str() {
            "-b" | "--bundle" => bundle = words.value(&word, inside)?,
            "--pid-file" => pid_file = Some(words.value(&word, inside)?),
            "--keep" if inside.is_none() => keep = true,
            "--no-pivot" if inside.is_none() => no_pivot = true,
            _ if word.starts_with('-') => return Err(unknown(&word)),
            _ => take_id(&mut id, word)?,
        }
    }
    Ok(Run {
        state: absolute(&state)?,
        id: needed(id)?,
        bundle: absolute(&bundle)?,
        pid_file: pid_file.as_deref().map(absolute).transpose()?,
        no_pivot,
        keep,
    })
}

fn exec(words: &mut Words<impl Iterator<Item = OsString>>, state: PathBuf) -> Result<Exec, Error> {
    let (mut process, mut pid_file, mut id) = (None, None, None);
    while let Some((word, inside)) = words.next()? {
        match word.as_str() {
            "-p" | "--process" => process = Some(words.value(&word, inside)?),
            "--pid-file" => pid_file = Some(words.value(&word, inside)?),
            _ if word.starts_with('-') => return Err(unknown(&word)),
            _ => take_id(&mut id, word)?,
        }
    }
    let process = process.ok_or_else(|| Error::new("exec needs --process"))?;
    Ok(Exec {
        state: absolute(&state)?,
        id: needed(id)?,
        process: absolute(&process)?,
        pid_file: pid_file.as_deref().map(absolute).transpose()?,
    })
}

fn take_id(id: &mut Option<String>, word: String) -> Result<(), Error> {
    match id.replace(word) {
        None => Ok(()),
        Some(_) => Err(Error::new("more than one container is named")),
    }
}

fn needed(id: Option<String>) -> Result<String, Error> {
    id.ok_or_else(|| Error::new("no container is named"))
}

/// Paths are for this process' directory, which it leaves.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    Ok(std::path::absolute(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> (Log, Result<Command, Error>) {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn lines_of_builders() {
        let (log, command) =
            parsed("--root /r --log=/l --log-format json run --bundle /b --pid-file=/p --keep i1");
        assert_eq!(log, Log { file: Some("/l".into()), json: true });
        let Ok(Command::Run(run)) = command else { panic!("{command:?}") };
        assert_eq!((run.state.to_str(), run.bundle.to_str()), (Some("/r"), Some("/b")));
        assert_eq!((run.pid_file, run.keep, run.id.as_str()), (Some("/p".into()), true, "i1"));
        let (_, command) = parsed("exec --process /q i1");
        let Ok(Command::Exec(exec)) = command else { panic!("{command:?}") };
        assert_eq!((exec.process, exec.pid_file, exec.state), ("/q".into(), None, DEFAULT_STATE.into()));
        assert!(matches!(parsed("--version").1, Ok(Command::Version)));
        assert!(matches!(parsed("").1, Ok(Command::Help)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "run",
            "run a b",
            "run --detach a",
            "run --keep=false a",
            "run --bundle",
            "exec a",
            "exec --detach --process /q a",
            "delete a",
            "--systemd-cgroup run a",
            "--log-format xml run a",
            "--root",
        ] {
            assert!(parsed(line).1.is_err(), "{line}");
        }
        assert_eq!(parsed("--log /l --what").0.file, Some("/l".into()));
    }
}
