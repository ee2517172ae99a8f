use buildkit_util_fsutil_types::Stat;

use crate::mode;

/// How files that are there already are compared with what a peer offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Differ {
    /// By their attributes: mode, owner, link, device, and for all but directories size and time.
    /// Extended attributes are not looked at.
    #[default]
    Metadata,
    /// Everything differs.
    None,
}

impl Differ {
    /// Whether `new` need not be transferred because `old` is the same.
    pub(crate) fn same(self, old: &Stat, new: &Stat) -> bool {
        self == Self::Metadata
            && (mode::is_dir(old.mode) || (old.size == new.size && old.mod_time == new.mod_time))
            && old.mode == new.mode
            && old.uid == new.uid
            && old.gid == new.gid
            && old.devmajor == new.devmajor
            && old.devminor == new.devminor
            && old.linkname == new.linkname
    }
}
