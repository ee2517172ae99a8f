//! Limits of what all processes of a build use.

use std::collections::BTreeMap;

use buildkit_client_llb::LinuxResources;
use buildkit_util_gotext::quoted;

use super::gotext::{parse_int, parse_uint};
use crate::OptionError;

/// Highest number of a processor or a memory node.
const MAX_CPU: i64 = 8192;

/// `None` if there are no limits.
pub(crate) fn linux_resources(
    opts: &BTreeMap<String, String>,
) -> Result<Option<LinuxResources>, OptionError> {
    let of = |key: &str| opts.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let wrong =
        |key: &str, value: &str, error: OptionError| error.doing(&format!("invalid {key} value: {value}"));
    let signed = |key: &str, unlimited: bool| match of(key) {
        None => Ok(0),
        Some(value) => {
            let number = parse_int(value).map_err(|error| wrong(key, value, error))?;
            let what = if unlimited { "must be -1 (unlimited) or > 0" } else { "must be > 0" };
            if number > 0 || (unlimited && number == -1) {
                return Ok(number);
            }
            Err(wrong(key, value, OptionError::new(what)))
        }
    };
    let unsigned = |key: &str| match of(key) {
        None => Ok(0),
        Some(value) => match parse_uint(value).map_err(|error| wrong(key, value, error))? {
            0 => Err(wrong(key, value, OptionError::new("must be > 0"))),
            number => Ok(number),
        },
    };
    let set = |key: &str| match of(key) {
        None => Ok(String::new()),
        Some(value) => match check_cpuset(value) {
            Ok(()) => Ok(value.to_owned()),
            Err(error) => Err(wrong(key, value, error)),
        },
    };
    let resources = LinuxResources {
        memory: signed("memory", false)?,
        memory_swap: signed("memswap", true)?,
        cpu_shares: unsigned("cpushares")?,
        cpu_period: unsigned("cpuperiod")?,
        cpu_quota: signed("cpuquota", false)?,
        cpuset_cpus: set("cpusetcpus")?,
        cpuset_mems: set("cpusetmems")?,
    };
    Ok((resources != LinuxResources::default()).then_some(resources))
}

/// Whether a text is a list such as `0-2,7`.
fn check_cpuset(text: &str) -> Result<(), OptionError> {
    let number = |text: &str| parse_int(text).ok().filter(|number| *number >= 0);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (kind, highest) = match part.split_once('-') {
            None => ("element", number(part)),
            Some((low, high)) => {
                let (low, high) = (number(low.trim()), number(high.trim()));
                ("range", low.and_then(|low| high.filter(|high| *high >= low)))
            }
        };
        match highest {
            None => return Err(OptionError::new(format!("invalid cpuset {kind} {}", quoted(part)))),
            Some(highest) if highest > MAX_CPU => {
                return Err(OptionError::new(format!(
                    "cpuset {kind} {} exceeds maximum {MAX_CPU}",
                    quoted(part)
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str, value: &str) -> Result<Option<LinuxResources>, String> {
        let opts = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        linux_resources(&opts).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_read() {
        let limits = |change: fn(&mut LinuxResources)| {
            let mut limits = LinuxResources::default();
            change(&mut limits);
            Ok(Some(limits))
        };
        assert_eq!(of("memory", "5"), limits(|limits| limits.memory = 5));
        assert_eq!(of("memswap", "-1"), limits(|limits| limits.memory_swap = -1));
        assert_eq!(of("cpuquota", "7"), limits(|limits| limits.cpu_quota = 7));
        assert_eq!(of("cpusetcpus", "0-2, 7,"), limits(|limits| limits.cpuset_cpus = "0-2, 7,".to_owned()));
        assert_eq!(of("memory", ""), Ok(None));
    }

    #[test]
    fn what_is_wrong_with_limits_is_told() {
        for (key, value, error) in [
            ("memory", "0", "invalid memory value: 0: must be > 0"),
            ("memswap", "-2", "invalid memswap value: -2: must be -1 (unlimited) or > 0"),
            (
                "cpushares",
                "-1",
                "invalid cpushares value: -1: strconv.ParseUint: parsing \"-1\": invalid syntax",
            ),
            ("cpuperiod", "0", "invalid cpuperiod value: 0: must be > 0"),
            ("cpusetcpus", "a", "invalid cpusetcpus value: a: invalid cpuset element \"a\""),
            ("cpusetmems", "3-1", "invalid cpusetmems value: 3-1: invalid cpuset range \"3-1\""),
            (
                "cpusetmems",
                "8193",
                "invalid cpusetmems value: 8193: cpuset element \"8193\" exceeds maximum 8192",
            ),
            (
                "cpusetmems",
                "0-9999",
                "invalid cpusetmems value: 0-9999: cpuset range \"0-9999\" exceeds maximum 8192",
            ),
        ] {
            assert_eq!(of(key, value), Err(error.to_owned()));
        }
    }
}
