//! The program of a process: where it is, and its start.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::config::Process;
use crate::error::{Context, Error};
use crate::sys;

/// What is executed, in the words of the kernel.
#[derive(Debug)]
pub(crate) struct Program {
    args: Vec<CString>,
    env: Vec<CString>,
    path: Option<String>,
}

impl Program {
    /// `home` is the value of `HOME` if the environment has none.
    pub(crate) fn new(process: &Process, home: impl FnOnce() -> String) -> Result<Self, Error> {
        let c_string = |text: &str| {
            CString::new(text).map_err(|_| Error::new(format!("{text:?} has a zero byte inside")))
        };
        if process.args.first().is_none_or(String::is_empty) {
            return Err(Error::new("process has no arguments"));
        }
        let value_of = |name: &str| {
            process.env.iter().rev().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
        };
        let mut env = process.env.iter().map(|variable| c_string(variable)).collect::<Result<Vec<_>, _>>()?;
        if value_of("HOME").is_none_or(str::is_empty) {
            env.retain(|variable| !variable.as_bytes().starts_with(b"HOME="));
            env.push(c_string(&format!("HOME={}", home()))?);
        }
        Ok(Self {
            args: process.args.iter().map(|arg| c_string(arg)).collect::<Result<_, _>>()?,
            env,
            path: value_of("PATH").map(str::to_owned),
        })
    }

    /// Finds the file as its user does.
    pub(crate) fn find(&self) -> Result<CString, Error> {
        let name = self.args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let fail = |error: Error| Error::new(format!("exec: {name:?}: {error}"));
        if name.contains('/') {
            check(&name).map_err(|error| match error {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                    fail(Error::from(error).context(format_args!("stat {name}")))
                }
                error => fail(error.into()),
            })?;
            return Ok(self.args.first().cloned().unwrap_or_default());
        }
        let directories = self.path.as_deref().unwrap_or_default();
        for directory in directories.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = Path::new(directory).join(&name);
            let Some(candidate) = candidate.to_str() else { continue };
            if check(candidate).is_ok() {
                return CString::new(candidate).map_err(|_| fail(Errno::INVAL.into()));
            }
        }
        Err(fail(Error::new("executable file not found in $PATH")))
    }

    /// Becomes it.
    pub(crate) fn execute(&self, file: &CStr) -> Result<Infallible, Error> {
        let args: Vec<&CStr> = self.args.iter().map(CString::as_c_str).collect();
        let env: Vec<&CStr> = self.env.iter().map(CString::as_c_str).collect();
        Err(sys::execute(file, &args, &env)).context(format_args!("exec {}", file.to_string_lossy()))
    }
}

/// Whether a path is a file that this process may execute.
fn check(path: &str) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(args: &[&str], env: &[&str]) -> Process {
        let json = serde_json::json!({ "user": {}, "args": args, "env": env, "cwd": "/" });
        serde_json::from_value(json).expect("process")
    }

    fn found(args: &[&str], env: &[&str]) -> Result<String, String> {
        let program = Program::new(&process(args, env), || "/".into()).map_err(|e| e.to_string())?;
        program.find().map(|path| path.into_string().expect("text")).map_err(|e| e.to_string())
    }

    #[test]
    fn programs_are_found() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
        fs_err::write(path("plain"), "").expect("file");
        fs_err::create_dir(path("sh")).expect("directory");
        let env = format!("PATH={}:/nowhere:/bin", directory.path().display());
        assert_eq!(found(&["sh"], &["PATH=/nowhere", &env]).as_deref(), Ok("/bin/sh"));
        assert_eq!(found(&["/bin/sh"], &[]).as_deref(), Ok("/bin/sh"));
        let missing = r#"exec: "nope": executable file not found in $PATH"#;
        let failed = |args: &[&str], env: &[&str]| found(args, env).expect_err("not found");
        assert_eq!(failed(&["nope"], &[&env]), missing);
        assert_eq!(failed(&["sh"], &[]), missing.replace("nope", "sh"));
        let error = r#"exec: "/no/x": stat /no/x: no such file or directory"#;
        assert_eq!(failed(&["/no/x"], &[]), error);
        assert_eq!(failed(&["/"], &[]), r#"exec: "/": is a directory"#);
        let plain = path("plain");
        assert_eq!(failed(&[&plain], &[]), format!("exec: {plain:?}: permission denied"));
        assert!(found(&[], &[]).is_err() && found(&[""], &[]).is_err());
    }

    #[test]
    fn homes() {
        let env = |env: &[&str]| {
            let program = Program::new(&process(&["x"], env), || "/home".into()).expect("program");
            program.env.into_iter().map(|v| v.into_string().expect("text")).collect::<Vec<_>>()
        };
        assert_eq!(env(&["A=1"]), ["A=1", "HOME=/home"]);
        assert_eq!(env(&["HOME=", "A=1"]), ["A=1", "HOME=/home"]);
        assert_eq!(env(&["HOME=/x"]), ["HOME=/x"]);
    }
}
