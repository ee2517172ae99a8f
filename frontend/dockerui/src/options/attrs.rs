//! Options that are one value.

use std::net::IpAddr;

use buildkit_client_llb::{Network, ResolveMode, Ulimit};
use buildkit_util_ocispec::Platform;

use super::gotext::{csv_fields, parse_int};
use crate::OptionError;

/// Most platforms of one build. All are converted and built side by side.
const MOST_PLATFORMS: usize = 100;

/// A limit of a resource for processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UlimitOption {
    /// The resource.
    pub limit: Ulimit,
    /// What it is at first; -1 is no limit.
    pub soft: i64,
    /// What a process may raise it to; -1 is no limit.
    pub hard: i64,
}

pub(crate) fn platforms(text: &str) -> Result<Vec<Platform>, OptionError> {
    let parse = |text: &str| {
        text.parse().map_err(|error| {
            OptionError::new(error).doing(&format!("failed to parse target platform {text}"))
        })
    };
    let count = text.split(',').count();
    if count > MOST_PLATFORMS {
        return Err(OptionError::new(format!(
            "{count} target platforms are asked for, at most {MOST_PLATFORMS} are built at once"
        )));
    }
    text.split(',').map(parse).collect()
}

pub(crate) fn resolve_mode(text: &str) -> Result<ResolveMode, OptionError> {
    match text {
        "default" | "" => Ok(ResolveMode::Default),
        "pull" => Ok(ResolveMode::ForcePull),
        "local" => Ok(ResolveMode::PreferLocal),
        other => Err(OptionError::new(format!("invalid image-resolve-mode: {other}"))),
    }
}

pub(crate) fn extra_hosts(text: &str) -> Result<Vec<(String, IpAddr)>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parse = |field: String| {
        let field = field.to_lowercase();
        let (host, ip) = field
            .split_once('=')
            .ok_or_else(|| OptionError::new(format!("invalid key-value pair {field}")))?;
        let address: IpAddr = ip.parse().map_err(|_| OptionError::new(format!("failed to parse IP {ip}")))?;
        Ok((host.to_owned(), address.to_canonical()))
    };
    csv_fields(text)?.into_iter().map(parse).collect()
}

pub(crate) fn shm_size(text: &str) -> Result<i64, OptionError> {
    if text.is_empty() { Ok(0) } else { parse_int(text) }
}

pub(crate) fn ulimits(text: &str) -> Result<Vec<UlimitOption>, OptionError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    csv_fields(text)?.iter().map(|field| ulimit(field)).collect()
}

fn ulimit(field: &str) -> Result<UlimitOption, OptionError> {
    let error = |text: String| Err(OptionError::new(text));
    let Some((name, values)) = field.split_once('=') else {
        return error(format!("invalid ulimit argument: {field}"));
    };
    let Some(limit) = Ulimit::by_name(name) else {
        return error(format!("invalid ulimit type: {name}"));
    };
    let values: Vec<&str> = values.split(':').collect();
    let (soft, hard) = match values[..] {
        [both] => {
            let both = parse_int(both)?;
            (both, both)
        }
        [soft, hard] => {
            let hard = parse_int(hard)?;
            (parse_int(soft)?, hard)
        }
        _ => {
            let values = values.join(":");
            return error(format!(
                "too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    const ORDER: &str = "ulimit soft limit must be less than or equal to hard limit";
    if hard != -1 && soft == -1 {
        return error(format!("{ORDER}: soft: -1 (unlimited), hard: {hard}"));
    }
    if hard != -1 && soft > hard {
        return error(format!("{ORDER}: {soft} > {hard}"));
    }
    Ok(UlimitOption { limit, soft, hard })
}

pub(crate) fn network(text: &str) -> Result<Network, OptionError> {
    match text {
        "" | "sandbox" => Ok(Network::Sandbox),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(OptionError::new(format!("invalid netmode {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let hosts = extra_hosts("A=1.2.3.4,b=::ffff:1.2.3.4,c=FE80::1").unwrap();
        let shown: Vec<String> = hosts.iter().map(|(host, ip)| format!("{host} {ip}")).collect();
        assert_eq!(shown, ["a 1.2.3.4", "b 1.2.3.4", "c fe80::1"]);
        assert_eq!(extra_hosts("a").unwrap_err().to_string(), "invalid key-value pair a");
        assert_eq!(extra_hosts("a=1.2.3").unwrap_err().to_string(), "failed to parse IP 1.2.3");
        assert_eq!(extra_hosts("a=01.2.3.4").unwrap_err().to_string(), "failed to parse IP 01.2.3.4");
    }

    #[test]
    fn limits() {
        let limit = |limit, soft, hard| UlimitOption { limit, soft, hard };
        assert_eq!(
            ulimits("nofile=1062:2048,core=-1,cpu=5:-1").unwrap(),
            [limit(Ulimit::Nofile, 1062, 2048), limit(Ulimit::Core, -1, -1), limit(Ulimit::Cpu, 5, -1)]
        );
        for (text, error) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("what=1", "invalid ulimit type: what"),
            ("nofile=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("nofile=x:y", "strconv.ParseInt: parsing \"y\": invalid syntax"),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
            ("nofile=3:2", "ulimit soft limit must be less than or equal to hard limit: 3 > 2"),
            (
                "nofile=-1:2",
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 2",
            ),
        ] {
            assert_eq!(ulimits(text).unwrap_err().to_string(), error);
        }
    }
}
