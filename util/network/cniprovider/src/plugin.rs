//! One run of a plugin.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use buildkit_util_appcontext::spawn;
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Results are never larger, in bytes.
const MAX_RESULT: usize = 1 << 20;

/// How much of what a plugin says of its failure is repeated, in bytes.
const MAX_REASON: usize = 1024;

/// How long the end of standard error is waited for once a plugin has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a plugin is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// What a plugin is told in its environment.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) verb: Verb,
    /// Id of the container.
    pub(crate) id: &'a str,
    /// Path of the namespace; empty when it is gone.
    pub(crate) netns: &'a Path,
    /// Name of the interface in it.
    pub(crate) interface: &'a str,
    /// `KEY=value;…`.
    pub(crate) args: &'a str,
    pub(crate) limit: Duration,
}

/// Where plugins are.
#[derive(Clone, Debug)]
pub(crate) struct Plugins {
    directories: Vec<PathBuf>,
    /// The directories as plugins are told them.
    path: OsString,
}

impl Plugins {
    pub(crate) fn new(directories: Vec<PathBuf>) -> Result<Self, Error> {
        let path = std::env::join_paths(&directories)
            .map_err(|error| Error::Invalid(format!("Directories of CNI plugins: {error}")))?;
        Ok(Self { directories, path })
    }

    /// The program of a plugin.
    pub(crate) fn find(&self, kind: &str) -> Result<PathBuf, String> {
        let programs = self.directories.iter().map(|directory| directory.join(kind));
        let found = programs.into_iter().find(|program| is_executable(program));
        found.ok_or_else(|| format!("no such program in `{}`", self.path.to_string_lossy()))
    }

    /// Runs a plugin to its end and gives its result, which a plugin that takes away has not.
    pub(crate) async fn run(
        &self,
        kind: &str,
        input: Vec<u8>,
        call: &Call<'_>,
        cancel: &CancellationToken,
    ) -> Result<Option<Value>, Error> {
        let failed =
            |reason: String| Error::Plugin { plugin: kind.to_owned(), command: call.verb.name(), reason };
        let program = self.find(kind).map_err(failed)?;
        let mut child = self
            .command(&program, call)
            .spawn()
            .map_err(|error| failed(format!("`{}` does not start: {error}", program.display())))?;
        let ended = tokio::select! {
            ended = tokio::time::timeout(call.limit, talk(&mut child, input)) => match ended {
                Ok(ended) => ended.map_err(|error| error.to_string()),
                Err(_) => Err(format!("it did not end within {} seconds", call.limit.as_secs_f32())),
            },
            () = cancel.cancelled() => Err("it was stopped".to_owned()),
        };
        let Ended { status, output, errors } = match ended {
            Ok(ended) => ended,
            Err(reason) => {
                kill(&mut child).await;
                return Err(failed(reason));
            }
        };
        let Some(output) = output else {
            return Err(failed(format!("it printed more than {MAX_RESULT} bytes")));
        };
        if !status.success() {
            return Err(failed(reason(status, &output, &errors)));
        }
        if call.verb == Verb::Del {
            return Ok(None);
        }
        match serde_json::from_slice(&output) {
            Ok(result @ Value::Object(_)) => Ok(Some(result)),
            Ok(_) => Err(failed("its result is not a JSON object".to_owned())),
            Err(error) => Err(failed(format!("its result is not JSON: {error}"))),
        }
    }

    fn command(&self, program: &Path, call: &Call<'_>) -> Command {
        let mut command = Command::new(program);
        // The rest of the environment is the daemon's: some plugins are configured by it.
        command
            .env("CNI_COMMAND", call.verb.name())
            .env("CNI_CONTAINERID", call.id)
            .env("CNI_NETNS", call.netns)
            .env("CNI_IFNAME", call.interface)
            .env("CNI_ARGS", call.args)
            .env("CNI_PATH", &self.path)
            .env_remove("NOTIFY_SOCKET")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

fn is_executable(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

struct Ended {
    status: ExitStatus,
    /// Standard output, unless there was more than a result can have.
    output: Option<Vec<u8>>,
    /// The beginning of standard error.
    errors: Vec<u8>,
}

/// Gives a plugin its input and reads what it prints until it has ended.
async fn talk(child: &mut Child, input: Vec<u8>) -> std::io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A plugin may end without having read everything.
            let _ = stdin.write_all(&input).await;
        }
    };
    let errors = spawn(async move { beginning(stderr).await });
    let (output, status, ()) = tokio::join!(limited(stdout), child.wait(), feed);
    // What a plugin starts and leaves running may hold standard error for as long as it likes.
    let errors = tokio::time::timeout(LAST_WORDS, errors).await;
    let errors = errors.ok().and_then(Result::ok).unwrap_or_default();
    Ok(Ended { status: status?, output: output?, errors })
}

/// All that is read, or nothing when it is too much: the pipe is closed then.
async fn limited(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Option<Vec<u8>>> {
    let Some(from) = from else { return Ok(None) };
    let mut content = Vec::new();
    from.take(MAX_RESULT as u64 + 1).read_to_end(&mut content).await?;
    Ok((content.len() <= MAX_RESULT).then_some(content))
}

/// The first of what is read; all of it is read.
async fn beginning(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut from) = from else { return Vec::new() };
    let mut content = Vec::new();
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = MAX_REASON.saturating_sub(content.len()).min(count);
        content.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    content
}

/// Ends a plugin with what it has started.
async fn kill(child: &mut Child) {
    // Without an id it has ended and was waited for: its number may be another's.
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended by now.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

/// Why a plugin failed: what it says in the form of the specification, or else what it wrote at all.
fn reason(status: ExitStatus, output: &[u8], errors: &[u8]) -> String {
    let said: Value = serde_json::from_slice(output).unwrap_or_default();
    let field = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut text = field("msg").to_owned();
    if !field("details").is_empty() {
        text = format!("{text}: {}", field("details"));
    }
    for other in [errors, output] {
        if one_line(&text).is_empty() {
            text = String::from_utf8_lossy(other).into_owned();
        }
    }
    let text = one_line(&text);
    if text.is_empty() { format!("it ended with {status}") } else { text }
}

/// The beginning of a text without what would break a line of a log.
fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let mut line = words.join(" ");
    if line.len() > MAX_REASON {
        line.truncate(line.floor_char_boundary(MAX_REASON));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin that is this script.
    fn plugins(dir: &Path, script: &str) -> Plugins {
        let program = dir.join("fake");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a program");
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("mode");
        Plugins::new(vec![dir.join("nothing"), dir.to_owned()]).expect("directories")
    }

    fn call(verb: Verb, limit: Duration) -> Call<'static> {
        Call { verb, id: "id1", netns: Path::new("/ns"), interface: "eth0", args: "A=b;C=d", limit }
    }

    async fn add(script: &str) -> Result<Option<Value>, String> {
        let dir = tempfile::tempdir().expect("directory");
        let plugins = plugins(dir.path(), script);
        let call = call(Verb::Add, Duration::from_secs(60));
        let result = plugins.run("fake", b"{\"in\":1}".to_vec(), &call, &CancellationToken::new()).await;
        result.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn plugins_are_told_and_heard() {
        let script = r#"printf '{"said":"%s %s %s %s %s","path":"%s","in":' "$CNI_COMMAND" "$CNI_CONTAINERID" \
            "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_PATH"; cat; echo }"#;
        let result = add(script).await.expect("success").expect("a result");
        assert_eq!(result["said"], "ADD id1 /ns eth0 A=b;C=d");
        assert_eq!(result["in"]["in"], 1);
        let path = result["path"].as_str().expect("a text");
        assert!(path.split(':').count() == 2 && path.split(':').all(|part| part.starts_with('/')), "{path}");
    }

    #[tokio::test]
    async fn failures_are_plain() {
        let huge = "i=0; while [ $i -lt 1600 ]; do head -c 65536 /dev/zero || exit 1; i=$((i+1)); done";
        let errors = format!("{} >&2; echo '{{}}'", "head -c 100000000 /dev/zero");
        for (script, expect) in [
            (r#"printf '%s' '{"code":7,"msg":"no way","details":"at\nall"}'; exit 1"#, "no way: at all"),
            ("echo not in the form; exit 1", "not in the form"),
            ("echo broken >&2; exit 3", "broken"),
            ("exit 3", "it ended with exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            ("echo nonsense", "its result is not JSON"),
            ("echo 7", "its result is not a JSON object"),
            (huge, "it printed more than 1048576 bytes"),
        ] {
            let error = add(script).await.expect_err(expect);
            assert!(error.starts_with("CNI plugin `fake` failed to ADD: "), "{error}");
            assert!(error.contains(expect) && error.len() < 2000 && !error.contains('\n'), "{error}");
        }
        assert!(add(&errors).await.is_ok(), "what is said beside a result does no harm");
        let dir = tempfile::tempdir().expect("directory");
        let plugins = plugins(dir.path(), "");
        let call = call(Verb::Add, Duration::from_secs(60));
        let error = plugins.run("other", Vec::new(), &call, &CancellationToken::new()).await;
        assert!(error.expect_err("missing").to_string().contains("no such program in"));
        fs::set_permissions(dir.path().join("fake"), PermissionsExt::from_mode(0o644)).expect("mode");
        assert!(plugins.find("fake").is_err(), "not a program");
    }

    /// The processes whose arguments have this text.
    fn processes(text: &str) -> usize {
        let all = fs::read_dir("/proc").expect("processes");
        all.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
            .filter(|line| String::from_utf8_lossy(line).contains(text))
            .count()
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_is_ended_with_what_it_started() {
        let dir = tempfile::tempdir().expect("directory");
        let number = 100_000 + std::process::id();
        let sleep = format!("sleep {number}");
        let plugins = plugins(dir.path(), &format!("trap '' TERM INT; {sleep} & {sleep}"));
        let argument = format!("sleep\0{number}\0");
        let limited = call(Verb::Add, Duration::from_millis(300));
        let error = plugins.run("fake", Vec::new(), &limited, &CancellationToken::new()).await;
        assert!(error.expect_err("hangs").to_string().contains("did not end within 0.3 seconds"));
        while processes(&argument) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let cancel = CancellationToken::new();
        let long = call(Verb::Del, Duration::from_secs(600));
        let stop = async {
            while processes(&argument) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (error, ()) = tokio::join!(plugins.run("fake", Vec::new(), &long, &cancel), stop);
        assert!(error.expect_err("hangs").to_string().contains("failed to DEL: it was stopped"));
        while processes(&argument) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
