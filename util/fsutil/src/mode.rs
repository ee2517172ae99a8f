//! File modes as Go's `os.FileMode` has them, which is what the protocol carries.

/// Directory.
pub const DIR: u32 = 1 << 31;
/// Symbolic link.
pub const SYMLINK: u32 = 1 << 27;
/// Device; a block device unless [`CHAR_DEVICE`] is set.
pub const DEVICE: u32 = 1 << 26;
/// Named pipe.
pub const NAMED_PIPE: u32 = 1 << 25;
/// Socket; the protocol never carries it, sockets are sent as empty files.
pub const SOCKET: u32 = 1 << 24;
/// Set user id.
pub const SETUID: u32 = 1 << 23;
/// Set group id.
pub const SETGID: u32 = 1 << 22;
/// Character device, together with [`DEVICE`].
pub const CHAR_DEVICE: u32 = 1 << 21;
/// Sticky.
pub const STICKY: u32 = 1 << 20;
/// Something else.
pub const IRREGULAR: u32 = 1 << 19;
/// Permissions of user, group and others.
pub const PERM: u32 = 0o777;
/// All bits that say what an entry is. A regular file has none of them.
pub const TYPE: u32 = DIR | SYMLINK | NAMED_PIPE | SOCKET | DEVICE | CHAR_DEVICE | IRREGULAR;

/// The mode of a POSIX `st_mode`.
pub fn from_posix(mode: u32) -> u32 {
    let mut go = mode & PERM;
    go |= match mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => NAMED_PIPE,
        0o140_000 => SOCKET,
        0o100_000 => 0,
        _ => IRREGULAR,
    };
    for (bit, flag) in [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)] {
        if mode & bit != 0 {
            go |= flag;
        }
    }
    go
}

/// The permission bits (`07777`) for `chmod(2)`.
pub fn permissions(go: u32) -> u32 {
    let mut mode = go & PERM;
    for (bit, flag) in [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)] {
        if go & flag != 0 {
            mode |= bit;
        }
    }
    mode
}

/// The whole `st_mode`, type and permissions.
pub fn to_posix(go: u32) -> u32 {
    let kind = if is_dir(go) {
        0o040_000
    } else if is_symlink(go) {
        0o120_000
    } else if go & CHAR_DEVICE != 0 {
        0o020_000
    } else if go & DEVICE != 0 {
        0o060_000
    } else if go & NAMED_PIPE != 0 {
        0o010_000
    } else if go & SOCKET != 0 {
        0o140_000
    } else {
        0o100_000
    };
    kind | permissions(go)
}

/// Whether it is a directory.
pub fn is_dir(go: u32) -> bool {
    go & DIR != 0
}

/// Whether it is a symbolic link.
pub fn is_symlink(go: u32) -> bool {
    go & SYMLINK != 0
}

/// Whether it is a regular file: content can be asked for.
pub fn is_regular(go: u32) -> bool {
    go & TYPE == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for mode in [
            0o040_755, 0o120_777, 0o060_660, 0o020_620, 0o010_644, 0o140_755, 0o100_644, 0o104_755,
            0o102_755, 0o041_777, 0o107_000,
        ] {
            assert_eq!(to_posix(from_posix(mode)), mode, "{mode:o}");
        }
        assert_eq!(from_posix(0o041_777), 0o777 | (1 << 31) | (1 << 20));
        assert_eq!(from_posix(0o020_620), 0o620 | (1 << 26) | (1 << 21));
        assert!(is_regular(from_posix(0o106_755)));
    }
}
