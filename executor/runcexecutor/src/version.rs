//! Whether a runtime is known to let containers out.

use std::path::Path;
use std::time::Duration;

use buildkit_util_appcontext::detach;
use buildkit_util_system::DEFAULT_PATH_UNIX;
use tokio::process::Command;

/// How long a runtime may take to say which one it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read of its answer, in bytes.
const MAX_ANSWER: usize = 4096;

/// The first releases with what keeps containers from writing to the host through masked paths, the console and
/// `/proc` (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881; for youki CVE-2025-62161, CVE-2025-62596): of each line
/// of releases that got it one, the oldest first.
const FIXED: [(&str, &[Release]); 2] =
    [("runc", &[[1, 2, 8, FINAL], [1, 3, 3, FINAL], [1, 4, 0, 3]]), ("youki", &[[0, 5, 7, FINAL]])];

/// Major, minor, patch, and the number of the release candidate.
type Release = [u32; 4];

/// In place of the number of a candidate, for what is none.
const FINAL: u32 = u32::MAX;

/// Warns of a runtime that lacks fixes, as soon as that says which one it is. Distributions mend old releases too, so
/// it is no reason to refuse one.
pub(crate) fn check(command: &Path) {
    let command = command.to_owned();
    detach("version of the runtime", async move {
        let mut asking = Command::new(&command);
        asking.env_clear().env("PATH", DEFAULT_PATH_UNIX).kill_on_drop(true).arg("--version");
        let answer = tokio::time::timeout(PATIENCE, asking.output()).await;
        let runtime = command.display();
        match answer {
            Ok(Ok(answer)) => {
                let text = String::from_utf8_lossy(&answer.stdout[..answer.stdout.len().min(MAX_ANSWER)]);
                if let Some(lacks) = lacking(&text) {
                    tracing::warn!(%runtime, "{lacks}");
                }
            }
            Ok(Err(error)) => tracing::warn!(%runtime, %error, "runtime does not say its version"),
            Err(_) => tracing::warn!(%runtime, "runtime does not say its version in time"),
        }
    });
}

/// What to tell of a runtime by its answer to `--version`, if its release is older than those with the fixes.
fn lacking(answer: &str) -> Option<String> {
    let line = answer.lines().next()?;
    let mut words = line.split(|c: char| c.is_whitespace() || c == ':').filter(|word| !word.is_empty());
    let name = words.next()?;
    let (name, fixed) = FIXED.iter().find(|(known, _)| *known == name)?;
    let text = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let release = parse(text)?;
    // Of its own line, or else newer than all lines.
    let is_fixed = match fixed.iter().find(|first| first[..2] == release[..2]) {
        Some(first) => release >= *first,
        None => fixed.last().is_some_and(|last| release >= *last),
    };
    let [major, minor, patch, _] = fixed[0];
    (!is_fixed).then(|| {
        format!(
            "{name} {text} is older than {major}.{minor}.{patch}: unless its distributor has added the fixes of \
             2025, hostile steps can write to the host"
        )
    })
}

/// `MAJOR.MINOR.PATCH[-rc.N]`, with anything behind it.
fn parse(text: &str) -> Option<Release> {
    let (numbers, rest) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (major, minor) = (next()?, next()?);
    let patch = next().unwrap_or(0);
    let candidate = rest.strip_prefix("-rc").map(|number| {
        let number = number.trim_start_matches('.');
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        number[..end].parse().unwrap_or(0)
    });
    Some([major, minor, patch, candidate.unwrap_or(FINAL)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_02_a2_03_releases_without_the_fixes_are_known() {
        for (answer, is_old) in [
            ("runc version 1.1.5+ds1\ncommit: 1\nspec: 1.0.2-dev\n", true),
            ("runc version 1.0.0-rc93\n", true),
            ("runc version 1.2.7", true),
            ("runc version 1.2.8", false),
            ("runc version 1.3.2", true),
            ("runc version 1.3.3-1", false),
            ("runc version 1.4.0-rc.2", true),
            ("runc version 1.4.0-rc.3", false),
            ("runc version 1.4.0", false),
            ("runc version 2.0.0", false),
            ("youki version: 0.5.6\n", true),
            ("youki version 0.5.7", false),
            ("crun version 1.8", false),
            ("runc", false),
            ("runc version unknown", false),
            ("runc version 99999999999.1.1", false),
            ("", false),
        ] {
            assert_eq!(lacking(answer).is_some(), is_old, "{answer}");
        }
    }
}
