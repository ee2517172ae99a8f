//! Which devices a group may use.

pub(crate) mod ebpf;

use std::{fmt, io};

/// The two kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// Ways to use a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Making a node for it.
    pub const MKNOD: Self = Self(1);
    /// Opening it to read.
    pub const READ: Self = Self(2);
    /// Opening it to write.
    pub const WRITE: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);
    const NONE: Self = Self(0);

    /// Letters of `r`, `w` and `m`, at least one, as in an OCI configuration.
    pub fn parse(letters: &str) -> Option<Self> {
        let bits = letters.chars().try_fold(Self::NONE, |found, letter| {
            let one = match letter {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => return None,
            };
            Some(found.with(one))
        });
        bits.filter(|access| *access != Self::NONE)
    }

    /// These and those.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (one, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.contains(one) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({self})")
    }
}

/// One rule of `linux.resources.devices` of an OCI configuration. Later rules win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// `None` for all devices: then without numbers and with [`Access::ALL`].
    pub kind: Option<DeviceKind>,
    /// `None` for any.
    pub major: Option<u32>,
    /// `None` for any.
    pub minor: Option<u32>,
    /// What it is about.
    pub access: Access,
}

impl DeviceRule {
    /// Allows or denies everything: the first rule of most configurations.
    pub const fn all(allow: bool) -> Self {
        Self { allow, kind: None, major: None, minor: None, access: Access::ALL }
    }

    const fn allowed(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        Self { allow: true, kind: Some(kind), major, minor, access }
    }
}

/// What every container may use, whatever its configuration says: the set of runc 1.1.5 and 1.3.0,
/// which is the same in both.
///
/// Nodes of all devices can be made, since making is not using; usable are `null`, `zero`, `full`,
/// `random`, `urandom`, `tty`, `ptmx`, pseudo terminals and `net/tun`, which acts on the network of
/// the container. The console of the host (5:1) is not among them: the one of a container is a
/// pseudo terminal.
///
/// They come after the rules of the configuration: a configuration begins by denying everything.
pub fn default_device_rules() -> Vec<DeviceRule> {
    use DeviceKind::{Block, Char};
    let usable = |major, minor| DeviceRule::allowed(Char, Some(major), minor, Access::ALL);
    let mut rules = vec![
        DeviceRule::allowed(Char, None, None, Access::MKNOD),
        DeviceRule::allowed(Block, None, None, Access::MKNOD),
    ];
    rules.extend([3, 8, 7].map(|minor| usable(1, Some(minor))));
    rules.push(usable(5, Some(0)));
    rules.extend([5, 9].map(|minor| usable(1, Some(minor))));
    rules.extend([usable(136, None), usable(5, Some(2)), usable(10, Some(200))]);
    rules
}

/// Devices that are treated differently from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

impl Exception {
    /// Whether each device of `other` is one of these.
    fn covers(&self, other: &Self) -> bool {
        let number = |mine: Option<u32>, its: Option<u32>| mine.is_none() || mine == its;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// Whether there can be a device in both.
    fn meets(&self, other: &Self) -> bool {
        let number = |mine: Option<u32>, its: Option<u32>| mine.is_none() || its.is_none() || mine == its;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }
}

/// In the words of `devices.allow` and `devices.deny`.
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// Rules without contradictions, in which order does not matter: what both versions can be told.
///
/// A use of a device, which may be several accesses at once, is granted
/// - if nothing is allowed by default, when one exception has all of its accesses,
/// - otherwise, when no exception has any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceList {
    pub(crate) allowed_by_default: bool,
    pub(crate) exceptions: Vec<Exception>,
}

impl DeviceList {
    /// Plays the rules. What no rule is about is denied.
    ///
    /// # Errors
    /// `InvalidInput` when a rule cannot be honoured exactly: it takes a part out of what an earlier
    /// rule has given with a wildcard (neither version 1 nor runc can), or is malformed.
    pub(crate) fn new(rules: &[DeviceRule]) -> io::Result<Self> {
        let mut list = Self { allowed_by_default: false, exceptions: Vec::new() };
        rules.iter().try_for_each(|rule| list.apply(rule))?;
        Ok(list)
    }

    /// Whether it restricts nothing.
    pub(crate) fn allows_all(&self) -> bool {
        self.allowed_by_default && self.exceptions.is_empty()
    }

    fn apply(&mut self, rule: &DeviceRule) -> io::Result<()> {
        let refused =
            |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{why}: {rule:?}")));
        if rule.access == Access::NONE {
            return refused("device rule without access");
        }
        // The kernel takes the greatest number for a wildcard, and its programs compare signed ones.
        if [rule.major, rule.minor].into_iter().flatten().any(|number| i32::try_from(number).is_err()) {
            return refused("no device has such a number");
        }
        let Some(kind) = rule.kind else {
            // The kernel would ignore what else is there, and open or close more than was asked for.
            if *rule != DeviceRule::all(rule.allow) {
                return refused("a device rule for all kinds has to be for all devices");
            }
            *self = Self { allowed_by_default: rule.allow, exceptions: Vec::new() };
            return Ok(());
        };
        let subject = Exception { kind, major: rule.major, minor: rule.minor, access: rule.access };
        if rule.allow != self.allowed_by_default {
            self.add(subject);
        } else if !self.take_out(&subject) {
            return refused("device rule takes a part out of an earlier one with a wildcard");
        }
        Ok(())
    }

    fn add(&mut self, new: Exception) {
        if self.exceptions.iter().any(|e| e.covers(&new) && e.access.contains(new.access)) {
            return;
        }
        match self.exceptions.iter_mut().find(|e| e.covers(&new) && new.covers(e)) {
            Some(same) => same.access = same.access.with(new.access),
            None => self.exceptions.push(new),
        }
    }

    /// Fails when an exception would have to be split.
    fn take_out(&mut self, old: &Exception) -> bool {
        let concerned = |e: &Exception| e.access.overlaps(old.access) && e.meets(old);
        if self.exceptions.iter().any(|e| concerned(e) && !old.covers(e)) {
            return false;
        }
        for exception in self.exceptions.iter_mut().filter(|e| concerned(e)) {
            exception.access = exception.access.without(old.access);
        }
        self.exceptions.retain(|exception| exception.access != Access::NONE);
        true
    }
}

#[cfg(test)]
mod tests;
