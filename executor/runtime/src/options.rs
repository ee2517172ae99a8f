//! Options of mounts, in the words of mount(8).

use rustix::mount::MountAttrFlags;

use crate::error::Error;

/// Propagation of mounts, by the numbers of mount(2).
const UNBINDABLE: u64 = 1 << 17;
const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const SHARED: u64 = 1 << 20;

/// All bits that say when times of access are written, which count as one field.
pub(crate) const ATIME: u64 = 0x70;

/// What options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// What the mount does not allow.
    pub attributes: MountAttrFlags,
    /// Whether times of access are among `attributes`.
    pub sets_atime: bool,
    /// Whether something that exists already is mounted.
    pub bind: bool,
    /// Whether mounts below that come along.
    pub recursive: bool,
    /// Propagation, and whether it is for mounts below, too; in order.
    pub propagation: Vec<(u64, bool)>,
    /// What the file system itself is told.
    pub data: Vec<String>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            attributes: MountAttrFlags::empty(),
            sets_atime: false,
            bind: false,
            recursive: false,
            propagation: Vec::new(),
            data: Vec::new(),
        }
    }
}

impl MountOptions {
    pub(crate) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        let mut set = |flag, on| self.attributes.set(flag, on);
        match option {
            "defaults" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "ro" => set(MountAttrFlags::MOUNT_ATTR_RDONLY, true),
            "rw" => set(MountAttrFlags::MOUNT_ATTR_RDONLY, false),
            "nosuid" => set(MountAttrFlags::MOUNT_ATTR_NOSUID, true),
            "suid" => set(MountAttrFlags::MOUNT_ATTR_NOSUID, false),
            "nodev" => set(MountAttrFlags::MOUNT_ATTR_NODEV, true),
            "dev" => set(MountAttrFlags::MOUNT_ATTR_NODEV, false),
            "noexec" => set(MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
            "exec" => set(MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
            "nodiratime" => {
                set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, true);
                self.sets_atime = true;
            }
            "diratime" => set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, false),
            "noatime" => self.atime(MountAttrFlags::MOUNT_ATTR_NOATIME),
            "strictatime" => self.atime(MountAttrFlags::MOUNT_ATTR_STRICTATIME),
            "relatime" | "atime" | "norelatime" | "nostrictatime" => {
                self.atime(MountAttrFlags::MOUNT_ATTR_RELATIME);
            }
            "unbindable" => self.propagation.push((UNBINDABLE, false)),
            "runbindable" => self.propagation.push((UNBINDABLE, true)),
            "private" => self.propagation.push((PRIVATE, false)),
            "rprivate" => self.propagation.push((PRIVATE, true)),
            "slave" => self.propagation.push((SLAVE, false)),
            "rslave" => self.propagation.push((SLAVE, true)),
            "shared" => self.propagation.push((SHARED, false)),
            "rshared" => self.propagation.push((SHARED, true)),
            data => self.data.push(data.to_owned()),
        }
    }

    /// One of those that exclude each other.
    fn atime(&mut self, flag: MountAttrFlags) {
        self.attributes.remove(MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_STRICTATIME);
        self.attributes.insert(flag);
        self.sets_atime = true;
    }

    /// Bits to clear when the attributes of a mount become these: like in mount(2), times of access stay as they are
    /// unless something is said of them.
    pub(crate) fn cleared(&self) -> u64 {
        let always = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let atime = ATIME | u64::from(MountAttrFlags::MOUNT_ATTR_NODIRATIME.bits());
        u64::from(always.bits()) | if self.sets_atime { atime } else { 0 }
    }

    /// The data as text, such as for mount(2).
    ///
    /// # Errors
    /// When an option has a comma in it, which would make it two.
    pub(crate) fn data_text(&self) -> Result<String, Error> {
        match self.data.iter().find(|option| option.contains(',')) {
            Some(option) => Err(Error::new(format!("mount option {option:?} has a comma"))),
            None => Ok(self.data.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> MountOptions {
        MountOptions::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words() {
        let options = parse("rbind ro nosuid rw rslave private noatime strictatime size=1 index=off");
        assert_eq!(
            options.attributes,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
        assert!(options.bind && options.recursive && options.sets_atime);
        assert_eq!(options.propagation, [(SLAVE, true), (PRIVATE, false)]);
        assert_eq!(options.data_text().as_deref(), Ok("size=1,index=off"));
        assert!(parse("a,b").data_text().is_err());
        assert_eq!(parse("nodev").cleared(), 0x1 | 0x2 | 0x4 | 0x8);
        assert_eq!(parse("noatime").cleared(), 0x1 | 0x2 | 0x4 | 0x8 | 0x70 | 0x80);
    }
}
