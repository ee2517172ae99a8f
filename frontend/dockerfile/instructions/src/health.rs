use std::num::IntErrorKind;
use std::time::Duration;

use buildkit_util_gotext::parse_duration;

use crate::error::At;
use crate::flags::{Flags, Takes};
use crate::request::{Request, command_words};
use crate::{Error, HealthConfig, Healthcheck};

const FLAGS: [(&str, Takes); 5] = [
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];

/// `HEALTHCHECK`.
pub(crate) fn healthcheck(request: &Request<'_>) -> Result<Healthcheck, At> {
    let (kind, rest) = request.words.split_first().ok_or(Error::AtLeastOneArgument(request.keyword))?;
    let origin = request.origin();
    let name = kind.text.to_uppercase();
    if name == "NONE" {
        if !rest.is_empty() {
            return Err(Error::HealthcheckNoneArguments.into());
        }
        return Ok(Healthcheck {
            origin,
            health: HealthConfig { test: vec![name], ..HealthConfig::default() },
        });
    }
    let flags = request.flags(&FLAGS)?;
    if name != "CMD" {
        return Err(At { error: Error::HealthcheckType(name), offset: Some(kind.offset) });
    }
    let command = command_words(rest, request.node.json);
    if command.is_empty() {
        return Err(Error::HealthcheckNoCommand.into());
    }
    let form = if request.node.json { "CMD" } else { "CMD-SHELL" };
    let health = HealthConfig {
        test: std::iter::once(form.to_owned()).chain(command).collect(),
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(&flags)?,
    };
    Ok(Healthcheck { origin, health })
}

/// A time of none, or of a millisecond at least.
fn interval(flags: &Flags<'_>, name: &'static str) -> Result<Duration, At> {
    let at = |error| At { error, offset: flags.offset(name) };
    let text = flags.text(name);
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let nanoseconds = parse_duration(text).map_err(|error| at(Error::Duration(error)))?;
    match u64::try_from(nanoseconds) {
        Ok(0) => Ok(Duration::ZERO),
        Ok(nanoseconds @ 1_000_000..) => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(at(Error::ShortInterval(name))),
    }
}

fn retries(flags: &Flags<'_>) -> Result<i32, At> {
    let text = flags.text("retries");
    let at = |error| At { error, offset: flags.offset("retries") };
    match text.parse::<i32>() {
        _ if text.is_empty() => Ok(0),
        Ok(retries) if retries < 0 => Err(at(Error::NegativeRetries(retries))),
        Ok(retries) => Ok(retries),
        Err(error) => {
            let reason = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(at(Error::Retries { value: text.to_owned(), reason }))
        }
    }
}
