use std::collections::BTreeMap;

/// Types of entries, as the header has them.
pub mod kind {
    /// A regular file.
    pub const REGULAR: u8 = b'0';
    /// Another name of a file before it in the archive.
    pub const LINK: u8 = b'1';
    /// A symbolic link.
    pub const SYMLINK: u8 = b'2';
    /// A character device.
    pub const CHAR_DEVICE: u8 = b'3';
    /// A block device.
    pub const BLOCK_DEVICE: u8 = b'4';
    /// A directory.
    pub const DIRECTORY: u8 = b'5';
    /// A named pipe.
    pub const FIFO: u8 = b'6';
    /// PAX records for all that follows. Nothing here makes use of them.
    pub const PAX_GLOBAL: u8 = b'g';
    /// A regular file with holes, in the old format of GNU.
    pub const GNU_SPARSE: u8 = b'S';
    pub(crate) const PAX: u8 = b'x';
    pub(crate) const GNU_LONG_NAME: u8 = b'L';
    pub(crate) const GNU_LONG_LINK: u8 = b'K';
    pub(crate) const OLD_REGULAR: u8 = 0;
}

/// Whether entries of a type have no content, whatever size they claim.
pub(crate) fn is_header_only(kind: u8) -> bool {
    (kind::LINK..=kind::FIFO).contains(&kind)
}

/// Seconds since 1970, and nanoseconds counted forward from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Negative before 1970.
    pub seconds: i64,
    /// Below 1 000 000 000.
    pub nanoseconds: u32,
}

impl Time {
    /// A time of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// The nearest whole second; the later one at a half.
    pub(crate) fn round(self) -> Self {
        Self::from_seconds(self.seconds.saturating_add(i64::from(self.nanoseconds >= 500_000_000)))
    }
}

/// Dialects of tar that an entry is in, or may be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format(u8);

impl Format {
    /// Not known; any may be written, and times are rounded to seconds.
    pub const UNKNOWN: Self = Self(0);
    /// POSIX.1-1988.
    pub const USTAR: Self = Self(1);
    /// POSIX.1-2001. An entry that needs no records is written as USTAR.
    pub const PAX: Self = Self(2);
    /// GNU.
    pub const GNU: Self = Self(4);
    pub(crate) const ANY: Self = Self(7);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What an archive says about an entry. Nothing of it is checked but for its form: names may be absolute or
/// lead upwards, numbers may be negative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its type, one of [`kind`] or another.
    pub kind: u8,
    /// Its path.
    pub name: Vec<u8>,
    /// What it links to.
    pub link: Vec<u8>,
    /// Bytes of its content, holes counted.
    pub size: i64,
    /// Permissions, with what else the archive has in that field.
    pub mode: i64,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Name of the owner.
    pub uname: Vec<u8>,
    /// Name of the group.
    pub gname: Vec<u8>,
    /// Last change of content.
    pub mtime: Option<Time>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last change of metadata.
    pub ctime: Option<Time>,
    /// Major device number.
    pub devmajor: i64,
    /// Minor device number.
    pub devminor: i64,
    /// PAX records of this entry.
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Its dialect.
    pub format: Format,
}

/// What PAX records of extended attributes begin with.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";
