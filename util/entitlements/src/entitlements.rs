use std::collections::BTreeSet;
use std::fmt;

use buildkit_errdefs::{Classify, Kind};

use crate::DeviceGrant;

/// A privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entitlement {
    /// The network of the host.
    NetworkHost,
    /// Containers without a sandbox.
    SecurityInsecure,
    /// Devices of the host.
    Device,
}

impl Entitlement {
    /// The name that people and the wire use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
            Self::Device => "device",
        }
    }

    /// Reads `name`, or `device=…` with what devices may be used.
    fn parse(text: &str) -> Result<(Self, Option<DeviceGrant>), Error> {
        let (key, rest) = text.split_once('=').unwrap_or((text, ""));
        match (key, text) {
            ("device", _) => Ok((Self::Device, Some(DeviceGrant::parse(rest)?))),
            (_, "network.host") => Ok((Self::NetworkHost, None)),
            (_, "security.insecure") => Ok((Self::SecurityInsecure, None)),
            _ => Err(Error::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Entitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a privilege is not granted. The texts are the original's, which clients match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such privilege.
    #[error("unknown entitlement {0}")]
    Unknown(String),
    /// What follows `device=` makes no sense.
    #[error("{0}")]
    Device(String),
    /// The daemon does not support it.
    #[error("granting entitlement {0} is not allowed by build daemon configuration")]
    NotSupported(Entitlement),
    /// The build was not granted it.
    #[error("{0} is not allowed")]
    NotAllowed(Entitlement),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown(_) | Self::Device(_) => Kind::InvalidArgument,
            Self::NotSupported(_) | Self::NotAllowed(_) => Kind::PermissionDenied,
        }
    }
}

/// A set of privileges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    names: BTreeSet<Entitlement>,
    devices: DeviceGrant,
}

impl Entitlements {
    /// What a daemon supports by its configuration.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Device`].
    pub fn supported<S: AsRef<str>>(configured: &[S]) -> Result<Self, Error> {
        let mut set = Self::default();
        for text in configured {
            set.add(Entitlement::parse(text.as_ref())?);
        }
        Ok(set)
    }

    /// What a build is granted that asks for `asked`, by a daemon that supports `supported`.
    ///
    /// # Errors
    /// As [`supported`](Self::supported), and [`Error::NotSupported`].
    pub fn granted<S: AsRef<str>>(asked: &[S], supported: &Self) -> Result<Self, Error> {
        let mut set = Self::default();
        for text in asked {
            let (name, devices) = Entitlement::parse(text.as_ref())?;
            if !supported.allows(name) {
                return Err(Error::NotSupported(name));
            }
            set.add((name, devices));
        }
        Ok(set)
    }

    fn add(&mut self, (name, devices): (Entitlement, Option<DeviceGrant>)) {
        self.names.insert(name);
        self.devices.merge(devices.unwrap_or_default());
    }

    /// Whether the set has a privilege.
    pub fn allows(&self, name: Entitlement) -> bool {
        self.names.contains(&name)
    }

    /// The devices that go with [`Entitlement::Device`].
    pub fn devices(&self) -> &DeviceGrant {
        &self.devices
    }

    /// Whether a step may run that needs these privileges.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] for the first that the set has not.
    pub fn check(&self, network_host: bool, security_insecure: bool) -> Result<(), Error> {
        let needed =
            [(network_host, Entitlement::NetworkHost), (security_insecure, Entitlement::SecurityInsecure)];
        match needed.into_iter().find(|(needed, name)| *needed && !self.allows(*name)) {
            Some((_, name)) => Err(Error::NotAllowed(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_consents() {
        let supported = Entitlements::supported(&["network.host", "device"]).expect("known");
        for (asked, expect) in [
            (vec![], Ok(())),
            (vec!["network.host", "network.host"], Ok(())),
            (
                vec!["security.insecure"],
                Err("granting entitlement security.insecure is not allowed by build daemon configuration"),
            ),
            (vec!["other"], Err("unknown entitlement other")),
            (vec!["network.host=x"], Err("unknown entitlement network.host=x")),
            (vec!["device=a,b=c"], Err("unknown device config key \"b\"")),
            (vec!["device=a,b"], Err("invalid device config \"b\"")),
        ] {
            let granted =
                Entitlements::granted(&asked, &supported).map(drop).map_err(|error| error.to_string());
            assert_eq!(granted, expect.map_err(str::to_owned), "{asked:?}");
        }
    }

    #[test]
    fn checks() {
        let none = Entitlements::default();
        assert_eq!(none.check(false, false), Ok(()));
        assert_eq!(none.check(true, true).expect_err("refused").to_string(), "network.host is not allowed");
        assert_eq!(
            none.check(false, true).expect_err("refused").to_string(),
            "security.insecure is not allowed"
        );
        let all = Entitlements::supported(&["network.host", "security.insecure"]).expect("known");
        assert_eq!(all.check(true, true), Ok(()));
    }

    #[test]
    fn devices() {
        let set = Entitlements::supported(&["device=a", "device=vendor.com/x=1,alias=y"]).expect("known");
        let devices = set.devices();
        assert!(!devices.all);
        let entries: Vec<_> = devices.devices.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(entries, [("a", ""), ("y", "vendor.com/x=1")]);
        assert!(Entitlements::supported(&["device"]).expect("known").devices().all);
    }
}
