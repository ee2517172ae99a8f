//! The program of the runtime, in the form in which it starts containers fastest.

use std::io::Read as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use buildkit_util_system::sealed_copy;
use fs_err as fs;
use parking_lot::Mutex;

/// Programs that do not copy themselves when they run from a sealed file in memory: runc, since its answer to
/// CVE-2019-5736 (`libcontainer/nsenter/cloned_binary.c`, later `libcontainer/exeseal`).
const SEALABLE: [&str; 2] = ["runc", "buildkit-runc"];

/// How programs begin.
const ELF: [u8; 4] = *b"\x7fELF";

/// The program of the runtime.
///
/// A container must not be able to overwrite the program that starts it, so runc makes a copy of itself for each one:
/// a mount that is taken off again, or megabytes in memory. One copy for all containers, which nobody can write to, is
/// as good and costs nothing per container. It follows updates of the file.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    /// A symbolic link to the copy, so that processes have the name of the program and not that of a descriptor.
    link: PathBuf,
    /// Gate: the file is read by the first of those that start.
    copy: Mutex<Option<Result<Arc<Copy>, Unsealable>>>,
}

/// A program in memory.
#[derive(Debug)]
struct Copy {
    of: Identity,
    // The link leads to this descriptor.
    _sealed: OwnedFd,
}

/// The file is used itself: it is none of [`SEALABLE`], or there can be no copy.
#[derive(Clone, Copy, Debug)]
struct Unsealable;

/// A file with this content: device, inode, size, times of modification and change.
type Identity = (u64, u64, u64, (i64, i64), (i64, i64));

/// What to execute.
#[derive(Debug)]
pub(crate) struct Executable {
    pub path: PathBuf,
    /// What is behind the path must be there until the process has started.
    _copy: Option<Arc<Copy>>,
}

impl Program {
    /// Nothing is read before the first start. The link is made in `directory`, which belongs to one daemon.
    pub(crate) fn new(path: PathBuf, directory: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_owned();
        let sealable = SEALABLE.iter().any(|known| name == *known);
        Self {
            link: directory.join(name),
            path,
            copy: Mutex::new(if sealable { None } else { Some(Err(Unsealable)) }),
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to execute now. May read the whole file: not for tasks that must not wait.
    pub(crate) fn executable(&self) -> Executable {
        let mut copy = self.copy.lock();
        // What is wrong with the file is said when it is executed.
        let file = || Executable { path: self.path.clone(), _copy: None };
        let Ok(of) = fs::metadata(&self.path).map(|metadata| identity(&metadata)) else { return file() };
        match &*copy {
            Some(Err(Unsealable)) => return file(),
            Some(Ok(copy)) if copy.of == of => {}
            Some(Ok(_)) | None => *copy = Some(self.seal(of)),
        }
        match &*copy {
            Some(Ok(copy)) => Executable { path: self.link.clone(), _copy: Some(copy.clone()) },
            Some(Err(Unsealable)) | None => file(),
        }
    }

    fn seal(&self, of: Identity) -> Result<Arc<Copy>, Unsealable> {
        match self.copy_program(of) {
            Ok(Some(copy)) => Ok(Arc::new(copy)),
            Ok(None) => Err(Unsealable),
            Err(error) => {
                let program = self.path.display();
                tracing::warn!(%program, %error, "the runtime makes a copy of itself for each container");
                Err(Unsealable)
            }
        }
    }

    /// `None` for what is no program: the interpreter of a script could not open a descriptor that is closed by then.
    fn copy_program(&self, of: Identity) -> std::io::Result<Option<Copy>> {
        let mut file = fs::File::open(&self.path)?;
        let mut magic = [0; ELF.len()];
        if file.read(&mut magic)? < ELF.len() || magic != ELF {
            return Ok(None);
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let memory = sealed_copy(file.file_mut(), &name)?;
        // Replaced in one step: other containers may start now.
        let new = self.link.with_extension("new");
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // Of the process that follows the link, which has the same descriptors until it executes the program.
        fs::os::unix::fs::symlink(format!("/proc/self/fd/{}", memory.as_raw_fd()), &new)?;
        fs::rename(&new, &self.link)?;
        Ok(Some(Copy { of, _sealed: memory }))
    }
}

fn identity(metadata: &std::fs::Metadata) -> Identity {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A program with this name that answers what it is run from.
    fn program(directory: &Path, name: &str) -> Program {
        let path = directory.join(name);
        fs::copy("/bin/busybox", &path).unwrap();
        let links = directory.join("links");
        fs::create_dir_all(&links).unwrap();
        Program::new(path, &links)
    }

    /// What busybox, called like this, says of itself.
    fn ask(executable: &Executable, script: &str) -> String {
        let output = Command::new(&executable.path).args(["busybox", "sh", "-c", script]).output();
        let output = match output {
            Ok(output) if output.status.success() => output,
            other => panic!("{other:?}"),
        };
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn runc_runs_from_a_copy_that_nobody_can_write_to() {
        let directory = tempfile::tempdir().unwrap();
        let program = program(directory.path(), "runc");
        let executable = program.executable();
        // The applet's name is that of the program, which busybox looks up in the arguments.
        let mut asked = Command::new(&executable.path);
        std::os::unix::process::CommandExt::arg0(&mut asked, "busybox");
        let script = "readlink /proc/$$/exe; cat /proc/$$/comm; echo x > /proc/$$/exe";
        let output = asked.args(["sh", "-c", script]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "/memfd:runc (deleted)\nrunc\n");
        assert!(!output.status.success(), "the copy was written to");
    }

    #[test]
    fn an_updated_program_is_used_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let program = program(directory.path(), "runc");
        let old = program.executable();
        let again = program.executable();
        assert!(Arc::ptr_eq(old._copy.as_ref().unwrap(), again._copy.as_ref().unwrap()));
        let new = directory.path().join("new");
        fs::copy("/bin/true", &new).unwrap();
        fs::rename(&new, program.path()).unwrap();
        let updated = program.executable();
        assert!(Command::new(&updated.path).arg("nonsense").status().unwrap().success());
        assert!(!Arc::ptr_eq(old._copy.as_ref().unwrap(), updated._copy.as_ref().unwrap()));
    }

    #[test]
    fn other_programs_run_from_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let program = program(directory.path(), "busybox");
        let executable = program.executable();
        assert_eq!(executable.path, program.path());
        let said = ask(&executable, "readlink /proc/$$/exe");
        assert_eq!(said, program.path().to_string_lossy());
    }

    #[test]
    fn a_script_runs_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let program = Program::new(directory.path().join("runc"), directory.path());
        fs::write(program.path(), "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(program.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let executable = program.executable();
        assert_eq!(executable.path, program.path());
        assert_eq!(Command::new(executable.path).output().unwrap().stdout, b"ran\n");
    }

    #[test]
    fn a_program_that_cannot_be_read_is_executed_itself() {
        let directory = tempfile::tempdir().unwrap();
        let program = Program::new(directory.path().join("missing/runc"), directory.path());
        assert_eq!(program.executable().path, program.path());
    }
}
