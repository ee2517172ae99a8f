//! Programs that keep credentials: `docker-credential-NAME get` reads a host and writes JSON.

use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::{AuthConfig, Error};

const PREFIX: &str = "docker-credential-";
/// User name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What all programs say of a host that they do not know.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The credentials that a program keeps for a host; empty when it has none.
pub(crate) async fn get(suffix: &str, host: &str, search: Option<&str>) -> Result<AuthConfig, Error> {
    let program = format!("{PREFIX}{suffix}");
    let failed = |message: String, output: &[u8]| Error::Helper {
        message,
        output: String::from_utf8_lossy(output).trim().to_owned(),
    };
    let mut command = Command::new(&program);
    command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Its prompts and complaints are for the user, not for the daemon.
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    if let Some(search) = search {
        command.env("PATH", search);
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            failed(format!("exec: {program:?}: executable file not found in $PATH"), b"")
        }
        _ => failed(error.to_string(), b""),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read may still answer.
        let _ = stdin.write_all(host.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|error| failed(error.to_string(), b""))?;
    if !output.status.success() {
        if output.stdout.trim_ascii() == NOT_FOUND.as_bytes() {
            return Ok(AuthConfig::default());
        }
        let message = match output.status.code() {
            Some(code) => format!("exit status {code}"),
            None => output.status.to_string(),
        };
        return Err(failed(message, &output.stdout));
    }
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|source| Error::Answer { program, source })?;
    Ok(if answer.username == TOKEN_USER {
        AuthConfig { identity_token: answer.secret, ..AuthConfig::default() }
    } else {
        AuthConfig { username: answer.username, password: answer.secret, ..AuthConfig::default() }
    })
}

/// The program that docker uses on this system when nothing is configured, if it is there.
pub(crate) fn default_store(search: Option<&str>) -> Option<&'static str> {
    let is_there = |name: &str| {
        let dirs = search.unwrap_or_default();
        std::env::split_paths(dirs).any(|dir| is_program(&dir.join(name)))
    };
    let name = if is_there("pass") { "pass" } else { "secretservice" };
    is_there(&format!("{PREFIX}{name}")).then_some(name)
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn program(dir: &Path, name: &str, script: &str) {
        let path = dir.join(name);
        fs_err::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    #[tokio::test]
    async fn programs_answer() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = r#"test "$1" = get || exit 9
read -r host
case "$host" in
  plain) echo '{"ServerURL":"plain","Username":"me","Secret":"pass"}' ;;
  token) echo '{"Username":"<token>","Secret":"idt"}' ;;
  none) echo 'credentials not found in native keychain'; exit 1 ;;
  noise) echo noise ;;
  *) echo "no credentials server URL"; exit 3 ;;
esac"#;
        program(dir.path(), "docker-credential-fake", script);
        let search = format!("{}:/usr/bin:/bin", dir.path().display());
        let ask = |host: &'static str| get("fake", host, Some(&search));
        let plain = ask("plain").await.expect("answers");
        assert_eq!((plain.username.as_str(), plain.password.as_str()), ("me", "pass"));
        let token = ask("token").await.expect("answers");
        assert_eq!((token.username.as_str(), token.identity_token.as_str()), ("", "idt"));
        assert_eq!(ask("none").await.expect("answers"), AuthConfig::default());
        assert!(matches!(ask("noise").await, Err(Error::Answer { .. })));
        let error = ask("else").await.expect_err("fails").to_string();
        assert_eq!(error, "error getting credentials - err: exit status 3, out: `no credentials server URL`");
        let error = get("none", "plain", Some(&search)).await.expect_err("missing").to_string();
        let expect = "err: exec: \"docker-credential-none\": executable file not found in $PATH, out: ``";
        assert!(error.ends_with(expect), "{error}");
    }

    #[test]
    fn defaults() {
        let dir = tempfile::tempdir().expect("a directory");
        let search = dir.path().display().to_string();
        assert_eq!(default_store(Some(&search)), None);
        program(dir.path(), "docker-credential-secretservice", "");
        assert_eq!(default_store(Some(&search)), Some("secretservice"));
        program(dir.path(), "pass", "");
        assert_eq!(default_store(Some(&search)), None);
        program(dir.path(), "docker-credential-pass", "");
        assert_eq!(default_store(Some(&search)), Some("pass"));
    }
}
