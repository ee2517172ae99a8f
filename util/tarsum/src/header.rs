use std::fmt::Write as _;

/// Bits of Go's `os.FileMode`, the form of modes on the wire.
mod go_mode {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const NAMED_PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const IRREGULAR: u32 = 1 << 19;
    pub(super) const PERM: u32 = 0o777;
}

/// Type flags of tar headers.
mod flag {
    pub(super) const REGULAR: u8 = b'0';
    pub(super) const SYMLINK: u8 = b'2';
    pub(super) const CHAR_DEVICE: u8 = b'3';
    pub(super) const BLOCK_DEVICE: u8 = b'4';
    pub(super) const DIRECTORY: u8 = b'5';
    pub(super) const FIFO: u8 = b'6';
}

/// A mode whose file type has no form in a tar header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Mode {0:#o} has no file type that tar knows")]
pub struct UnknownMode(pub u32);

/// What a digest of a file is made of, its content apart.
#[derive(Clone, Debug, Default)]
pub struct Header<'a> {
    /// Name; empty in content digests, where those who list directories add it.
    pub name: &'a [u8],
    /// Permissions with setuid, setgid and sticky bits, as in POSIX.
    pub mode: i64,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Bytes of content of a regular file, 0 for others.
    pub size: i64,
    /// Type flag of tar. Sockets are hashed as regular files.
    pub typeflag: u8,
    /// Target of a symbolic link, empty for others.
    pub linkname: &'a [u8],
    /// Name of the owner; empty in content digests.
    pub uname: &'a [u8],
    /// Name of the group; empty in content digests.
    pub gname: &'a [u8],
    /// Major number of a device.
    pub devmajor: i64,
    /// Minor number of a device.
    pub devminor: i64,
}

impl<'a> Header<'a> {
    /// The header of a nameless file with a mode in the form of Go's `os.FileMode`: `size` counts for regular
    /// files only and `linkname` for symbolic links only, so a hard link hashes as the file it is.
    ///
    /// # Errors
    /// When the mode has no type that tar knows.
    pub fn from_go_mode(
        mode: u32,
        (uid, gid): (u32, u32),
        size: i64,
        linkname: &'a [u8],
        (devmajor, devminor): (i64, i64),
    ) -> Result<Self, UnknownMode> {
        use go_mode as m;
        const TYPE: u32 = m::DIR | m::SYMLINK | m::NAMED_PIPE | m::DEVICE | m::CHAR_DEVICE;
        // Sockets and irregular files are hashed as regular ones.
        let known = mode & !(m::SOCKET | m::IRREGULAR);
        let typeflag = if known & TYPE == 0 {
            flag::REGULAR
        } else if known & m::DIR != 0 {
            flag::DIRECTORY
        } else if known & m::SYMLINK != 0 {
            flag::SYMLINK
        } else if known & m::DEVICE != 0 {
            if known & m::CHAR_DEVICE != 0 { flag::CHAR_DEVICE } else { flag::BLOCK_DEVICE }
        } else if known & m::NAMED_PIPE != 0 {
            flag::FIFO
        } else {
            return Err(UnknownMode(mode));
        };
        let bit = |go: u32, posix: u32| if mode & go != 0 { posix } else { 0 };
        let posix =
            (mode & m::PERM) | bit(m::SETUID, 0o4000) | bit(m::SETGID, 0o2000) | bit(m::STICKY, 0o1000);
        Ok(Self {
            mode: posix.into(),
            uid: uid.into(),
            gid: gid.into(),
            size: if typeflag == flag::REGULAR { size } else { 0 },
            typeflag,
            linkname: if typeflag == flag::SYMLINK { linkname } else { &[] },
            devmajor,
            devminor,
            ..Self::default()
        })
    }

    /// Gives the header's bytes to `write`, piece by piece. `xattrs` are the file's extended
    /// attributes in any order; those that do not count are left out.
    pub fn write_v1<'x>(
        &self,
        xattrs: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
        mut write: impl FnMut(&[u8]),
    ) {
        let mut text = String::with_capacity(128);
        write(b"name");
        write(self.name);
        // Writing to a string does not fail.
        let _ = write!(text, "mode{}uid{}gid{}size{}typeflag", self.mode, self.uid, self.gid, self.size);
        write(text.as_bytes());
        for part in
            [&[self.typeflag][..], b"linkname", self.linkname, b"uname", self.uname, b"gname", self.gname]
        {
            write(part);
        }
        text.clear();
        let _ = write!(text, "devmajor{}devminor{}", self.devmajor, self.devminor);
        write(text.as_bytes());

        let mut counted: Vec<_> = xattrs.into_iter().filter(|(name, _)| is_hashed_xattr(name)).collect();
        counted.sort_unstable();
        for (name, value) in counted {
            write(name);
            write(value);
        }
    }
}

/// Whether an extended attribute takes part in digests: of those that the system manages
/// (`security.`, `system.`) only file capabilities do.
pub fn is_hashed_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || !(name.starts_with(b"security.") || name.starts_with(b"system."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: &Header<'_>, xattrs: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        header.write_v1(xattrs.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())), |bytes| {
            out.extend_from_slice(bytes);
        });
        String::from_utf8(out).expect("text")
    }

    fn header(mode: u32) -> Result<Header<'static>, UnknownMode> {
        Header::from_go_mode(mode, (1, 2), 33, b"target", (4, 5))
    }

    #[test]
    fn each_file_type_has_its_fields() {
        let cases: &[(u32, &str)] = &[
            (0o644, "namemode420uid1gid2size33typeflag0linknameunamegnamedevmajor4devminor5"),
            (
                go_mode::SYMLINK | 0o777,
                "namemode511uid1gid2size0typeflag2linknametargetunamegnamedevmajor4devminor5",
            ),
            (
                go_mode::DIR | go_mode::STICKY | 0o777,
                "namemode1023uid1gid2size0typeflag5linknameunamegnamedevmajor4devminor5",
            ),
            (
                go_mode::DEVICE | go_mode::CHAR_DEVICE | 0o600,
                "namemode384uid1gid2size0typeflag3linknameunamegnamedevmajor4devminor5",
            ),
            (
                go_mode::DEVICE | 0o600,
                "namemode384uid1gid2size0typeflag4linknameunamegnamedevmajor4devminor5",
            ),
            (
                go_mode::NAMED_PIPE | go_mode::SETUID | go_mode::SETGID,
                "namemode3072uid1gid2size0typeflag6linknameunamegnamedevmajor4devminor5",
            ),
            (
                go_mode::SOCKET | 0o755,
                "namemode493uid1gid2size33typeflag0linknameunamegnamedevmajor4devminor5",
            ),
        ];
        for (mode, expected) in cases {
            assert_eq!(&text(&header(*mode).expect("known"), &[]), expected);
        }
        let stray = go_mode::CHAR_DEVICE;
        assert_eq!(header(stray).map(|_| ()), Err(UnknownMode(stray)));
    }

    #[test]
    fn extended_attributes_are_filtered_and_sorted() {
        let header = header(0).expect("known");
        let with = text(
            &header,
            &[
                ("user.b", "2"),
                ("security.selinux", "x"),
                ("system.posix_acl_access", "y"),
                ("security.capability", "cap"),
                ("user.a", "1"),
                ("trusted.t", "3"),
            ],
        );
        let plain = text(&header, &[]);
        assert_eq!(with.strip_prefix(&plain), Some("security.capabilitycaptrusted.t3user.a1user.b2"));
    }
}
