//! Users and groups of a root file system, from its `/etc/passwd` and `/etc/group`.

use buildkit_errdefs::{Classify, Kind};

use crate::Root;

/// No file of users or groups that is larger is read, in bytes.
const MAX_FILE: u64 = 10 << 20;
/// Longer lines are refused, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Largest id, for the sake of systems with 32 bits.
const MAX_ID: i64 = (1 << 31) - 1;

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, without the primary one unless the files name it.
    pub groups: Vec<u32>,
    /// Home directory, empty when not known.
    pub home: String,
}

/// Why a user was not found. The texts are the original's, which clients know.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number that no id can be.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    /// A file that is too large, or a line that is too long.
    #[error("{0}")]
    Malformed(String),
}

impl Classify for UserError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// One line of `/etc/passwd`.
struct Entry<'a> {
    name: &'a str,
    uid: i64,
    gid: i64,
    home: &'a str,
}

/// Finds `name|uid[:group|gid]` in the files of `root`; empty is root. With two numbers no file is
/// read. A file that does not exist, or is no regular file, has no entries. Supplementary groups
/// are those of a user that is found without a group being asked for.
pub fn lookup_user(root: &Root, spec: &str) -> Result<User, UserError> {
    let spec_or_root = if spec.is_empty() { "0" } else { spec };
    if let Some((uid, gid)) = both_numbers(spec_or_root) {
        let (uid, gid) = (id(uid.into())?, id(gid.into())?);
        return Ok(User { uid, gid, ..User::default() });
    }
    let found = read(root, "/etc/passwd")
        .and_then(|passwd| Ok((passwd, read(root, "/etc/group")?)))
        .and_then(|(passwd, group)| find(&passwd, &group, spec_or_root));
    match found {
        // Without a request, a root file system without users runs as root.
        Err(_) if spec.is_empty() => Ok(User::default()),
        result => result,
    }
}

/// The id of a group `name|gid` by the group file of `root`.
pub fn lookup_group(root: &Root, name: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(name)? {
        return Ok(gid);
    }
    let group = read(root, "/etc/group")?;
    let found = groups(&group).find(|(group_name, ..)| *group_name == name);
    let (_, gid, _) = found.ok_or_else(|| UserError::UnknownGroup(name.to_owned()))?;
    id(gid)
}

fn both_numbers(spec: &str) -> Option<(u32, u32)> {
    let (uid, gid) = spec.split_once(':')?;
    let parse = |text: &str| if text == "root" { Some(0) } else { unsigned(text) };
    Some((parse(uid)?, parse(gid)?))
}

fn unsigned(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The number that a name is, if it is one.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // Nobody becomes root by `+0` or `-0`.
    if digits.len() < text.len() {
        return Err(UserError::Range);
    }
    id(digits.parse().map_err(|_| UserError::Range)?).map(Some)
}

fn id(number: i64) -> Result<u32, UserError> {
    if (0..=MAX_ID).contains(&number) {
        u32::try_from(number).map_err(|_| UserError::Range)
    } else {
        Err(UserError::Range)
    }
}

fn read(root: &Root, path: &str) -> Result<String, UserError> {
    let content = match root.read_file(path, MAX_FILE) {
        Ok(content) => content,
        Err(crate::Error::TooLarge { .. }) => {
            return Err(UserError::Malformed(format!("{path:?} exceeds {MAX_FILE} bytes")));
        }
        Err(_) => return Ok(String::new()),
    };
    if content.split(|byte| *byte == b'\n').any(|line| line.len() > MAX_LINE) {
        return Err(UserError::Malformed(format!("{path:?} has a line of more than {MAX_LINE} bytes")));
    }
    Ok(match String::from_utf8(content) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn lines(content: &str) -> impl Iterator<Item = Vec<&str>> {
    content
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

fn field<'a>(fields: &[&'a str], position: usize) -> &'a str {
    fields.get(position).copied().unwrap_or_default()
}

fn users(content: &str) -> impl Iterator<Item = Entry<'_>> {
    lines(content).map(|fields| Entry {
        name: field(&fields, 0),
        uid: field(&fields, 2).parse().unwrap_or(0),
        gid: field(&fields, 3).parse().unwrap_or(0),
        home: field(&fields, 5),
    })
}

fn groups(content: &str) -> impl Iterator<Item = (&str, i64, &str)> {
    lines(content)
        .map(|fields| (field(&fields, 0), field(&fields, 2).parse().unwrap_or(0), field(&fields, 3)))
}

fn find(passwd: &str, group: &str, spec: &str) -> Result<User, UserError> {
    let mut parts = spec.split(':');
    let (user_name, group_name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (uid, gid) = (number(user_name)?, number(group_name)?);
    let matching = users(passwd).find(|entry| match uid {
        _ if user_name.is_empty() => entry.uid == 0,
        // A number is always an id, never a name.
        Some(uid) => entry.uid == i64::from(uid),
        None => entry.name == user_name,
    });
    let mut user = User::default();
    let mut matched_name = "";
    match matching {
        Some(entry) => {
            matched_name = entry.name;
            user = User { uid: id(entry.uid)?, gid: id(entry.gid)?, home: entry.home.to_owned(), ..user };
        }
        None if user_name.is_empty() => {}
        None => user.uid = uid.ok_or_else(|| UserError::UnknownUser(user_name.to_owned()))?,
    }
    if !group_name.is_empty() {
        let matching = groups(group).find(|(name, number, _)| match gid {
            Some(gid) => *number == i64::from(gid),
            None => *name == group_name,
        });
        user.gid = match (matching, gid) {
            (Some((_, number, _)), _) => id(number)?,
            (None, Some(gid)) => gid,
            (None, None) => return Err(UserError::UnknownGroup(group_name.to_owned())),
        };
    } else if !matched_name.is_empty() {
        let member = |(_, gid, members): (&str, i64, &str)| {
            members.split(',').any(|member| member == matched_name).then(|| id(gid))
        };
        user.groups = groups(group).filter_map(member).collect::<Result<_, _>>()?;
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\n\ndaemon:x:1:1::/usr/sbin:/bin\n\
        u:x:1000:1001::/home/u:/bin/sh\n1234:x:77:77::/:/\nbroken\n";
    const GROUP: &str = "root:x:0:\nu:x:1001:\nwheel:x:10:root,u\nstaff:x:50:u\n5:x:500:\n";

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir(dir.path().join("etc")).expect("etc");
        let root = Root::open(dir.path()).expect("root");
        (dir, root)
    }

    #[test]
    fn lookups() {
        let (dir, root) = tree();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).expect("passwd");
        std::fs::write(dir.path().join("etc/group"), GROUP).expect("group");
        for (spec, expect) in [
            ("", Ok((0, 0, vec![10]))),
            ("root", Ok((0, 0, vec![10]))),
            ("u", Ok((1000, 1001, vec![10, 50]))),
            ("1000", Ok((1000, 1001, vec![10, 50]))),
            ("u:staff", Ok((1000, 50, vec![]))),
            ("u:77", Ok((1000, 77, vec![]))),
            ("12:34", Ok((12, 34, vec![]))),
            ("root:root", Ok((0, 0, vec![]))),
            ("1234", Ok((1234, 0, vec![]))),
            ("2147483647:1", Ok((2_147_483_647, 1, vec![]))),
            ("2147483648:0", Err("uids and gids must be in range 0-2147483647")),
            ("0:2147483648", Err("uids and gids must be in range 0-2147483647")),
            ("4000000000", Err("uids and gids must be in range 0-2147483647")),
            ("+0", Err("uids and gids must be in range 0-2147483647")),
            ("-0", Err("uids and gids must be in range 0-2147483647")),
            ("-1", Err("uids and gids must be in range 0-2147483647")),
            ("nobody", Err("unable to find user nobody: no matching entries in passwd file")),
            ("u:none", Err("unable to find group none: no matching entries in group file")),
        ] {
            let found = lookup_user(&root, spec).map(|u| (u.uid, u.gid, u.groups)).map_err(|e| e.to_string());
            assert_eq!(found, expect.map_err(str::to_owned), "{spec:?}");
        }
        assert_eq!(lookup_group(&root, "staff").expect("group"), 50);
        assert_eq!(lookup_group(&root, "9").expect("group"), 9);
        assert!(lookup_group(&root, "none").is_err());
    }

    #[test]
    fn a1_13_huge_and_special_files_are_refused_at_once() {
        let (dir, root) = tree();
        let path = |name: &str| dir.path().join("etc").join(name);
        assert_eq!(lookup_user(&root, "").expect("no files"), User::default());
        std::fs::File::create(path("group")).and_then(|f| f.set_len(8 << 30)).expect("sparse");
        std::fs::write(path("passwd"), PASSWD).expect("passwd");
        assert_eq!(
            lookup_user(&root, "u").expect_err("huge").to_string(),
            "\"/etc/group\" exceeds 10485760 bytes"
        );
        std::fs::write(path("group"), "x".repeat(1 << 20)).expect("group");
        assert!(matches!(lookup_user(&root, "u"), Err(UserError::Malformed(_))));
        std::fs::remove_file(path("passwd")).expect("remove");
        std::os::unix::fs::symlink("passwd", path("passwd")).expect("loop");
        std::fs::remove_file(path("group")).expect("remove");
        assert!(matches!(lookup_user(&root, "u"), Err(UserError::UnknownUser(_))));
        std::fs::remove_file(path("passwd")).expect("remove");
        root.mknod("etc/passwd", crate::FileKind::Fifo, 0o644, (0, 0)).expect("fifo");
        assert!(matches!(lookup_user(&root, "u"), Err(UserError::UnknownUser(_))));
        root.remove("etc/passwd").expect("remove");
        root.mknod("etc/passwd", crate::FileKind::CharDevice, 0o644, (1, 5)).expect("zero");
        assert!(matches!(lookup_user(&root, "u"), Err(UserError::UnknownUser(_))));
    }
}
