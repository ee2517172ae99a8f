//! What a process may do, from the moment before its program starts.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use buildkit_util_seccomp::Instruction;
use buildkit_util_system::{CAPABILITIES, Root, lookup_user};
use rustix::fs::{Gid, Mode, OFlags, PROC_SUPER_MAGIC, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::config::{Process, User};
use crate::error::{Context, Error};
use crate::rootfs::{KERNEL, is_null};
use crate::sys;

/// Limits of resources by their names in `setrlimit(2)`.
const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// What new files of the process must not allow, unless the configuration says so.
const UMASK: u32 = 0o022;

/// What a process is to be, checked as far as that is possible before anything is done.
#[derive(Debug)]
pub(crate) struct Privileges {
    user: User,
    bounding: CapabilitySet,
    ambient: CapabilitySet,
    sets: CapabilitySets,
    limits: Vec<(Resource, Rlimit)>,
    filter: Option<Vec<Instruction>>,
    no_new_privileges: bool,
    cwd: PathBuf,
    apparmor: Option<String>,
}

impl Privileges {
    pub(crate) fn new(process: &Process, filter: Option<Vec<Instruction>>) -> Result<Self, Error> {
        let capabilities = &process.capabilities;
        let limits = process.rlimits.iter().map(|limit| {
            let (_, resource) = LIMITS
                .into_iter()
                .find(|(name, _)| *name == limit.kind)
                .ok_or_else(|| Error::new(format!("unknown limit of resources {:?}", limit.kind)))?;
            let value = |value: u64| (value != u64::MAX).then_some(value);
            Ok((resource, Rlimit { current: value(limit.soft), maximum: value(limit.hard) }))
        });
        Ok(Self {
            user: process.user.clone(),
            bounding: set_of(&capabilities.bounding),
            ambient: set_of(&capabilities.ambient),
            sets: CapabilitySets {
                effective: set_of(&capabilities.effective),
                permitted: set_of(&capabilities.permitted),
                inheritable: set_of(&capabilities.inheritable),
            },
            limits: limits.collect::<Result<_, Error>>()?,
            filter,
            no_new_privileges: process.no_new_privileges,
            cwd: process.cwd.clone().into(),
            apparmor: process.apparmor_profile.clone().filter(|profile| !profile.is_empty()),
        })
    }

    /// The file of the kernel that takes the name of the profile, while the machine's `/proc` can be seen.
    pub(crate) fn open_apparmor(&self) -> Result<Option<OwnedFd>, Error> {
        if self.apparmor.is_none() {
            return Ok(None);
        }
        let open = |path| rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        open("/proc/thread-self/attr/apparmor/exec")
            .or_else(|_| open("/proc/thread-self/attr/exec"))
            .map(Some)
            .context("apply the profile of AppArmor")
    }

    /// Takes from this process whatever it is not to have. What is left of it to do is to execute its program.
    ///
    /// `apparmor` is of [`Self::open_apparmor`]. All descriptors but the standard streams have to be closed on exec.
    pub(crate) fn drop_all(self, apparmor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let (uid, gid) = (self.user.uid, self.user.gid);
        give_streams(uid)?;
        rustix::process::umask(Mode::from_raw_mode(self.user.umask.unwrap_or(UMASK)));
        sys::join_new_keyring().context("join a new session keyring")?;
        // As root first: the user may have no access to what lies above.
        let entered = match rustix::process::chdir(&self.cwd) {
            Err(Errno::PERM | Errno::ACCESS) => false,
            entered => entered.map(|()| true).context(chdir_failed(&self.cwd))?,
        };
        for (resource, limit) in self.limits {
            rustix::process::setrlimit(resource, limit)
                .context(format_args!("set the limit {resource:?}"))?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).context("refuse new privileges")?;
        } else if let Some(filter) = &self.filter {
            // Without the above it takes a privilege.
            sys::set_seccomp(filter).context("filter system calls")?;
        }
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding.contains(capability) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // The kernel knows no more of them.
                Err(Errno::INVAL) => break,
                removed => removed.context("drop capabilities")?,
            }
        }
        rustix::thread::set_keep_capabilities(true).context("keep capabilities")?;
        let groups: Vec<Gid> = self.user.additional_gids.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups).context("set groups")?;
        let gid = Gid::from_raw(gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).context("set the group")?;
        let uid = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).context("set the user")?;
        rustix::thread::set_keep_capabilities(false).context("keep capabilities")?;
        if !entered {
            rustix::process::chdir(&self.cwd).context(chdir_failed(&self.cwd))?;
        }
        verify_inside()?;
        rustix::thread::set_capabilities(None, self.sets).context("set capabilities")?;
        rustix::thread::clear_ambient_capability_set().context("set ambient capabilities")?;
        for capability in self.ambient.iter() {
            match rustix::thread::configure_capability_in_ambient_set(capability, true) {
                Err(Errno::INVAL) => {}
                set => set.context("set ambient capabilities")?,
            }
        }
        // Another user is what the machine's setting says, which may be to let that user look in.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("close this process to others")?;
        if let (Some(profile), Some(file)) = (&self.apparmor, apparmor) {
            rustix::io::write(file, format!("exec {profile}").as_bytes())
                .context("apply the profile of AppArmor")?;
        }
        if self.no_new_privileges
            && let Some(filter) = &self.filter
        {
            sys::set_seccomp(filter).context("filter system calls")?;
        }
        Ok(())
    }
}

fn chdir_failed(path: &Path) -> String {
    format!("chdir to cwd ({path:?}) set in config.json failed")
}

/// Capabilities that this program does not know are not given.
fn set_of(names: &[String]) -> CapabilitySet {
    let number = |name: &String| CAPABILITIES.iter().position(|known| known == name);
    names
        .iter()
        .filter_map(number)
        .fold(CapabilitySet::empty(), |set, number| set | CapabilitySet::from_bits_retain(1 << number))
}

/// A directory that is open already could lie on the machine (CVE-2024-21626).
fn verify_inside() -> Result<(), Error> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => {
            Err(Error::new("current working directory is outside of container mount namespace root"))
        }
        Err(error) => Err(Error::from(error).context("getcwd")),
    }
}

/// Lets the user of the process open its streams anew, such as by `/dev/stdout`.
fn give_streams(uid: u32) -> Result<(), Error> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if rustix::fs::fstat(stream)?.st_uid == uid || is_null(stream)? {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Not every file has an owner that can be changed.
            Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            given => given.context("give the streams to the user")?,
        }
    }
    Ok(())
}

/// The home of a user by the files of the container, for processes that are not told of any.
pub(crate) fn home_of(root: &Root, uid: u32) -> String {
    // A link into the kernel's file systems would be read with more privileges than the process will have.
    let is_kernel = |list: &str| {
        let kind = root.resolve(list).ok().and_then(|list| rustix::fs::fstatfs(&list).ok());
        kind.is_some_and(|kind| {
            kind.f_type == PROC_SUPER_MAGIC || KERNEL.contains(&kind.f_type.cast_unsigned())
        })
    };
    if ["/etc/passwd", "/etc/group"].into_iter().any(is_kernel) {
        return "/".to_owned();
    }
    match lookup_user(root, &uid.to_string()) {
        Ok(user) if !user.home.is_empty() => user.home,
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        assert_eq!(set_of(&["CAP_CHOWN".into(), "CAP_X".into()]), CapabilitySet::CHOWN);
        let all: Vec<String> = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(set_of(&all).bits(), (1 << CAPABILITIES.len()) - 1);
        assert_eq!(set_of(&["CAP_SYS_ADMIN".into()]), CapabilitySet::SYS_ADMIN);
        assert_eq!(set_of(&["CAP_CHECKPOINT_RESTORE".into()]), CapabilitySet::CHECKPOINT_RESTORE);
    }
}
