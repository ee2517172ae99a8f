//! The date that everything is said to be made at.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use buildkit_client_llb::{State, http};
use buildkit_frontend_dockerfile_dfgitutil::GitRef;
use buildkit_frontend_dockerfile_instructions::{Add, ArgDefinition, Instruction, Stage};
use buildkit_frontend_dockerfile_shell::Lex;
use buildkit_util_gotext::quoted;

use crate::dispatch::{GitAdd, digest, file_name, is_http_source};
use crate::env::EnvList;
use crate::error::At as _;
use crate::stage::SCRATCH;
use crate::{ConvertOptions, Error, LoadedContext, Result};

/// The argument that has it.
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The date of a value: seconds, `context`, or the name of a context or of a stage that has but one source.
pub(crate) async fn resolve(
    value: &str,
    options: &ConvertOptions,
    stages: &[Stage],
    given: &BTreeMap<String, String>,
    global: &EnvList,
    lex: &Lex,
) -> Result<Option<i64>> {
    if value.is_empty() {
        return Ok(None);
    }
    if let Ok(seconds) = value.parse() {
        return Ok(Some(seconds));
    }
    let around = &options.surroundings;
    let (state, title) = if value == "context" {
        (around.main_context(&[]).await?, "[internal] resolve main build context metadata".to_owned())
    } else if let Some(context) = around.named_context(value, None)? {
        let title = format!("[internal] resolve SOURCE_DATE_EPOCH named context {value}");
        let LoadedContext { state, set_used, .. } = context.load().await?;
        // Which of its files steps will use is not known, and is not asked.
        if let Some(set_used) = set_used {
            set_used(Vec::new());
        }
        (state, title)
    } else {
        let stage = stages
            .iter()
            .find(|stage| !stage.name.is_empty() && stage.name.eq_ignore_ascii_case(value))
            .ok_or_else(|| {
                Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {value}"))
                    .hint("write seconds since 1970, or the name of a stage")
            })?;
        let mut args = global.clone();
        args.remove(SOURCE_DATE_EPOCH);
        let state = stage_source(stage, given, args, lex).at(&stage.origin.ranges)?;
        (state, format!("[internal] resolve SOURCE_DATE_EPOCH source stage {}", stage.name))
    };
    Ok(around.source_date(&state, &title).await?)
}

/// The only source of a stage that has nothing but one.
fn stage_source(
    stage: &Stage,
    given: &BTreeMap<String, String>,
    mut args: EnvList,
    lex: &Lex,
) -> Result<State> {
    const ONE_SOURCE: &str = "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD";
    let expand = |word: &str, args: &EnvList| {
        lex.process_word(word, args).map(|word| word.result).map_err(Error::from)
    };
    let base = expand(&stage.base_name, &args).map_err(|error| {
        let base = quoted(&stage.base_name);
        error.context(&format!("failed to process source stage base name {base}"))
    })?;
    if base != SCRATCH {
        return Err(Error::invalid("SOURCE_DATE_EPOCH stage must use FROM scratch"));
    }
    let mut source = None;
    for instruction in &stage.instructions {
        match instruction {
            Instruction::Arg(it) => {
                for ArgDefinition { key, value, .. } in &it.args {
                    match (given.get(key), value) {
                        (Some(value), _) => args.set(key, value),
                        (None, Some(default)) => {
                            let value = expand(default, &args)?;
                            args.set(key, &value);
                        }
                        (None, None) => {}
                    }
                }
            }
            Instruction::Add(_) if source.is_some() => return Err(Error::invalid(ONE_SOURCE)),
            Instruction::Add(it) => source = Some(add_source(it, |word| expand(word, &args))?),
            other => {
                return Err(Error::invalid(format!(
                    "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {} instruction",
                    other.origin().keyword
                )));
            }
        }
    }
    source.ok_or_else(|| Error::invalid(ONE_SOURCE))
}

fn add_source(it: &Add, expand: impl Fn(&str) -> Result<String>) -> Result<State> {
    let [path] = it.paths.source_paths.as_slice() else {
        return Err(Error::invalid("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
    };
    if !it.paths.source_contents.is_empty() {
        return Err(Error::invalid("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
    }
    let path = expand(path)?;
    let checksum = if it.checksum.is_empty() { String::new() } else { expand(&it.checksum)? };
    if is_http_source(&path) {
        let source = http(&path).filename(&file_name(&path));
        return Ok(if checksum.is_empty() { source } else { source.checksum(digest(&checksum)?) }.state());
    }
    match GitRef::parse(&path).transpose()?.filter(|repository| !repository.looks_local) {
        Some(reference) => GitAdd::new(it.keep_git_dir, checksum).state(&reference),
        None => Err(Error::invalid("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")),
    }
}

/// A date in the words of the standard library.
pub(crate) fn system_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A date in the words of RFC 3339.
pub(crate) fn rfc3339(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Years begin in March here, so that the day that some have more is their last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), want);
        }
    }
}
