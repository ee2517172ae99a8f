use std::time::Duration;

/// Limits of one stream of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes in all; `None` is no limit.
    pub size: Option<u64>,
    /// Bytes per second, counted from the start of the stream; `None` is no limit.
    pub speed: Option<u64>,
}

impl Default for LogLimits {
    /// 2 MiB in all and 200 KiB per second.
    fn default() -> Self {
        Self { size: Some(2 << 20), speed: Some(200 << 10) }
    }
}

/// Why a stream is clipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clip {
    Size(u64),
    Speed(u64),
}

impl LogLimits {
    /// The limits that `BUILDKIT_STEP_LOG_MAX_SIZE` and `BUILDKIT_STEP_LOG_MAX_SPEED` (bytes, and
    /// bytes per second) of an environment give; -1 is no limit, and what is no number the default.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Self {
        let limit =
            |name: &str, default: Option<u64>| match get(name).and_then(|text| text.parse::<i32>().ok()) {
                Some(-1) => None,
                Some(number) => Some(u64::try_from(number).unwrap_or(0)),
                None => default,
            };
        let default = Self::default();
        Self {
            size: limit("BUILDKIT_STEP_LOG_MAX_SIZE", default.size),
            speed: limit("BUILDKIT_STEP_LOG_MAX_SPEED", default.speed),
        }
    }

    /// Bytes that may have been delivered after this time, and what limits them.
    pub(crate) fn allowed(&self, elapsed: Duration) -> Option<(u64, Clip)> {
        // A started second counts as a whole one.
        let seconds = elapsed.as_secs() + u64::from(elapsed.subsec_nanos() > 0);
        let by_speed = self.speed.map(|speed| (seconds.saturating_mul(speed), Clip::Speed(speed)));
        let by_size = self.size.map(|size| (size, Clip::Size(size)));
        match (by_speed, by_size) {
            (Some(speed), Some(size)) => Some(if speed.0 > size.0 { size } else { speed }),
            (one, other) => one.or(other),
        }
    }
}

impl Clip {
    /// The line that says that output is missing.
    pub(crate) fn message(self) -> String {
        let limit = match self {
            Self::Size(size) => human(size),
            Self::Speed(speed) => format!("{}/s", human(speed)),
        };
        format!("\n[output clipped, log limit {limit} reached]\n")
    }
}

/// Such as `2MiB` or `200KiB`: the largest unit that leaves at least one.
fn human(bytes: u64) -> String {
    let (mut unit, mut value) = ("B", bytes as f64);
    for name in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (unit, value) = (name, value / 1024.0);
    }
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (clip, expect) in [
            (Clip::Size(2 << 20), "2MiB"),
            (Clip::Speed(200 << 10), "200KiB/s"),
            (Clip::Size(1000), "1000B"),
            (Clip::Size(1536), "1.5KiB"),
        ] {
            assert_eq!(clip.message(), format!("\n[output clipped, log limit {expect} reached]\n"));
        }
    }

    #[test]
    fn environment() {
        let limits = |size: &'static str, speed: &'static str| {
            LogLimits::from_env(|name| Some(if name.ends_with("SIZE") { size } else { speed }.to_owned()))
        };
        assert_eq!(LogLimits::from_env(|_| None), LogLimits::default());
        assert_eq!(limits("-1", "-1"), LogLimits { size: None, speed: None });
        assert_eq!(limits("5", "x"), LogLimits { size: Some(5), ..LogLimits::default() });
    }

    #[test]
    fn allowance_grows_by_the_second_up_to_the_size() {
        let limits = LogLimits { size: Some(250), speed: Some(100) };
        for (millis, expect) in
            [(1, (100, Clip::Speed(100))), (1001, (200, Clip::Speed(100))), (2001, (250, Clip::Size(250)))]
        {
            assert_eq!(limits.allowed(Duration::from_millis(millis)), Some(expect));
        }
        assert_eq!(LogLimits { size: None, speed: None }.allowed(Duration::ZERO), None);
    }
}
