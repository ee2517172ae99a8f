use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The address of a DNS server, with the zone of a link-local one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Address.
    pub address: IpAddr,
    /// Such as `eth0`; empty for none.
    pub zone: String,
}

impl NameServer {
    /// A server without a zone.
    pub const fn new(address: IpAddr) -> Self {
        Self { address, zone: String::new() }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.zone.is_empty() { Ok(()) } else { write!(f, "%{}", self.zone) }
    }
}

impl FromStr for NameServer {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('%') {
            Some((address, zone)) if !zone.is_empty() && address.contains(':') => {
                Ok(Self { address: address.parse()?, zone: zone.to_owned() })
            }
            _ => text.parse().map(Self::new),
        }
    }
}
