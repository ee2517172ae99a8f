//! Ports as `EXPOSE` and `docker run -p` have them: `[[address:]host-ports:]ports[/protocol]`.

use std::net::IpAddr;

use crate::{Error, Result};
use buildkit_util_gotext::quoted;

/// What a word says, its numbers not checked.
#[derive(Debug)]
pub(super) struct PortSpec<'a> {
    address: String,
    host_ports: &'a str,
    container_ports: &'a str,
    /// In lower case.
    protocol: String,
}

pub(super) fn parse(text: &str) -> Result<PortSpec<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (address, host_ports, container) = match parts.as_slice() {
        [address @ .., host, container] => (address.join(":"), *host, *container),
        [container] => (String::new(), "", *container),
        [] => (String::new(), "", ""),
    };
    let invalid = |reason: String| Error::invalid(format!("invalid port: {}: {reason}", quoted(text)));
    let (container_ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    if container_ports.is_empty() {
        return Err(invalid("no port specified".to_owned()));
    }
    let protocol = match protocol.to_lowercase() {
        none if none.is_empty() => "tcp".to_owned(),
        known if matches!(known.as_str(), "tcp" | "udp" | "sctp") => known,
        _ => return Err(invalid(format!("invalid proto: {protocol}"))),
    };
    Ok(PortSpec { address, host_ports, container_ports, protocol })
}

/// What ports are.
const PORTS: &str = "write a number up to 65535, or first-last, such as 80/tcp or 8000-8010";
/// Who says on which addresses ports are.
const ADDRESSES: &str = "remove the address: addresses and host ports are given when the image is run";

impl PortSpec<'_> {
    /// Each port with its protocol.
    pub(super) fn ports(&self) -> Result<Vec<String>> {
        let invalid = |text: String| Error::invalid(text).hint(ADDRESSES);
        let address = match self.address.strip_prefix('[') {
            Some(inner) => inner
                .strip_suffix(']')
                .ok_or_else(|| invalid(format!("invalid IP address {}", self.address)))?,
            None => &self.address,
        };
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            return Err(invalid(format!("invalid IP address: {address}")));
        }
        let (start, end) = range(self.container_ports).ok_or_else(|| {
            Error::invalid(format!("invalid containerPort: {}", self.container_ports))
                .hint(self.what_ports_are())
        })?;
        if !self.host_ports.is_empty() {
            let (host_start, host_end) = range(self.host_ports).ok_or_else(|| {
                Error::invalid(format!("invalid hostPort: {}", self.host_ports)).hint(PORTS)
            })?;
            if end - start != host_end - host_start && end != start {
                return Err(Error::invalid(format!(
                    "invalid ranges specified for container and host Ports: {} and {}",
                    self.container_ports, self.host_ports
                ))
                .hint("remove the host ports: they are given when the image is run"));
            }
        }
        Ok((start..=end).map(|port| format!("{port}/{}", self.protocol)).collect())
    }

    fn what_ports_are(&self) -> &'static str {
        if self.container_ports.starts_with('#') {
            "comments stand on lines of their own"
        } else if self.container_ports.contains(',') {
            "put blanks between ports, not commas"
        } else {
            PORTS
        }
    }
}

/// `first[-last]`.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok();
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (number(start)?, number(end)?);
    (end >= start).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> std::result::Result<Vec<String>, String> {
        parse(text).and_then(|spec| spec.ports()).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_are_listed() {
        for (text, want) in [
            ("80", vec!["80/tcp"]),
            ("0/UDP", vec!["0/udp"]),
            ("1-3/sctp", vec!["1/sctp", "2/sctp", "3/sctp"]),
            ("8080:80", vec!["80/tcp"]),
            ("127.0.0.1:1-2:3-4", vec!["3/tcp", "4/tcp"]),
            ("[::1]:1-9:80", vec!["80/tcp"]),
            ("::1:1:80", vec!["80/tcp"]),
        ] {
            assert_eq!(ports(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (text, want) in [
            ("", "invalid port: \"\": no port specified"),
            ("/udp", "invalid port: \"/udp\": no port specified"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("65536", "invalid containerPort: 65536"),
            ("3-1", "invalid containerPort: 3-1"),
            ("x:80", "invalid hostPort: x"),
            ("a:1:80", "invalid IP address: a"),
            ("[::1:1:80", "invalid IP address [::1"),
            ("1-2:3-5", "invalid ranges specified for container and host Ports: 3-5 and 1-2"),
        ] {
            assert_eq!(ports(text).unwrap_err(), want, "{text}");
        }
    }
}
