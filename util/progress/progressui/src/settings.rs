use std::time::Duration;

/// Lines of a log window, at least and by default.
pub(crate) const MIN_LOG_LINES: usize = 6;

/// What can be set by environment variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `BUILDKIT_COLORS`, `NO_COLOR`.
    pub colors: Colors,
    /// `BUILDKIT_TTY_LOG_LINES`: lines of the window that shows the output of a running step.
    pub log_lines: usize,
    /// `PROGRESS_NO_TRUNC=0`: cut long names in plain mode.
    pub truncate: bool,
    /// `TTY_DISPLAY_RATE` in milliseconds: time between two updates.
    pub rate: Option<Duration>,
}

/// Escape sequences that colour finished steps; empty is no colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Colors {
    /// A step that went well.
    pub run: String,
    /// A cancelled step.
    pub cancel: String,
    /// A step with a warning.
    pub warning: String,
    /// A step that failed.
    pub error: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { colors: Colors::default(), log_lines: MIN_LOG_LINES, truncate: false, rate: None }
    }
}

impl Default for Colors {
    fn default() -> Self {
        let code = |number: u8| format!("\x1b[{number}m");
        Self { run: code(34), cancel: code(33), warning: code(33), error: code(31) }
    }
}

impl Settings {
    /// The settings of this process, and what is wrong with them, a line each.
    pub fn from_env() -> (Self, Vec<String>) {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), from any variables.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let colors = if set("NO_COLOR").is_some() {
            let none = String::new;
            Colors { run: none(), cancel: none(), warning: none(), error: none() }
        } else {
            let mut colors = Colors::default();
            for field in set("BUILDKIT_COLORS").iter().flat_map(|text| text.split(':')) {
                if let Err(problem) = colors.set(field) {
                    problems.push(problem);
                }
            }
            colors
        };
        let lines = set("BUILDKIT_TTY_LOG_LINES").and_then(|text| text.parse().ok());
        let rate = set("TTY_DISPLAY_RATE").and_then(|text| text.parse().ok());
        let settings = Self {
            colors,
            log_lines: lines.filter(|&lines| lines > 0).unwrap_or(MIN_LOG_LINES),
            truncate: get("PROGRESS_NO_TRUNC").as_deref() == Some("0"),
            rate: rate.map(Duration::from_millis),
        };
        (settings, problems)
    }
}

impl Colors {
    /// Sets one colour from `key=name` or `key=red,green,blue`.
    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = field
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| format!("Could not parse BUILDKIT_COLORS component: {field}"))?;
        let value = value.trim_matches('"');
        let code = if value.contains(',') { rgb(value) } else { named(value) };
        let code =
            code.ok_or_else(|| format!("Unknown color value found in BUILDKIT_COLORS: {key}={value}"))?;
        let slot = match key.to_lowercase().as_str() {
            "run" => &mut self.run,
            "cancel" => &mut self.cancel,
            "error" => &mut self.error,
            "warning" => &mut self.warning,
            _ => {
                return Err(format!(
                    "Unknown key found in BUILDKIT_COLORS \
                     (expected: run, cancel, error, or warning): {key}"
                ));
            }
        };
        *slot = code;
        Ok(())
    }
}

fn named(name: &str) -> Option<String> {
    const NAMES: [&str; 8] = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
    let name = name.to_lowercase();
    if name == "default" {
        return Some("\x1b[39m".to_owned());
    }
    let (base, name) = match name.strip_prefix("light-") {
        Some(name) => (90, name.to_owned()),
        None => (30, name),
    };
    let index = NAMES.iter().position(|known| **known == *name)?;
    Some(format!("\x1b[{}m", base + index))
}

/// The nearest of the 216 colours that terminals with 256 have.
fn rgb(text: &str) -> Option<String> {
    let parts = text.split(',').map(|part| part.trim().parse::<u8>()).collect::<Result<Vec<_>, _>>();
    let [red, green, blue] = parts.ok()?.try_into().ok()?;
    let level = |part: u8| u16::from(part) / 43;
    Some(format!("\x1b[38;5;{}m", 16 + 36 * level(red) + 6 * level(green) + level(blue)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables() {
        assert_eq!(parse(&[]), (Settings::default(), Vec::new()));
        let (settings, problems) = parse(&[
            ("BUILDKIT_COLORS", "run=light-green:error=255,0,43:cancel=nope:other=red:x"),
            ("BUILDKIT_TTY_LOG_LINES", "12"),
            ("PROGRESS_NO_TRUNC", "0"),
            ("TTY_DISPLAY_RATE", "20"),
        ]);
        assert_eq!(settings.colors.run, "\x1b[92m");
        assert_eq!(settings.colors.error, "\x1b[38;5;197m");
        assert_eq!(settings.colors.cancel, Colors::default().cancel);
        assert_eq!((settings.log_lines, settings.truncate), (12, true));
        assert_eq!(settings.rate, Some(Duration::from_millis(20)));
        assert_eq!(problems.len(), 3, "{problems:?}");
        let (settings, _) = parse(&[("NO_COLOR", "1"), ("BUILDKIT_COLORS", "run=red")]);
        assert_eq!(settings.colors.run, "");
    }
}
