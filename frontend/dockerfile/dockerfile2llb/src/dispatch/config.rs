//! Instructions that change nothing but the image's configuration and what steps inherit.

use std::time::Duration;

use buildkit_frontend_dockerfile_instructions::{
    Cmd, CommandLine, Entrypoint, Env, Healthcheck, Label, Maintainer, Origin, Shell, StopSignal, User,
    Volume,
};
use buildkit_frontend_dockerfile_linter::checks;
use buildkit_util_gotext::format_duration;
use buildkit_util_ocispec::{Empty, Healthcheck as Health};

use crate::convert::Converter;
use crate::env::set_in_list;
use crate::stage::{StageId, StageState};
use crate::{Error, Result, format};

/// Names of signals on Linux. Real-time ones are counted from both ends.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

impl Converter<'_> {
    pub(super) fn maintainer(&mut self, id: StageId, it: &Maintainer) -> Result<()> {
        self.stages[id].image.author.clone_from(&it.maintainer);
        self.note(id, format!("MAINTAINER {}", it.maintainer))
    }

    pub(super) fn env(&mut self, id: StageId, it: &Env) -> Result<()> {
        let mut text = "ENV".to_owned();
        for variable in &it.env {
            if variable.legacy {
                self.warn_of_legacy_pair(&it.origin);
            }
            self.report(checks::secret_in_arg_or_env("ENV", &variable.key), &it.origin);
            text.push_str(&format!(" {variable}"));
        }
        self.pass_variables(id)?;
        let variables = || it.env.iter().map(|variable| (variable.key.as_str(), variable.value.as_str()));
        let stage = &mut self.stages[id];
        stage.state = stage.state.envs(variables());
        set_in_list(&mut stage.image.config.env, variables());
        self.note(id, text)
    }

    pub(super) fn label(&mut self, id: StageId, it: &Label) -> Result<()> {
        let mut text = "LABEL".to_owned();
        for label in &it.labels {
            if label.legacy {
                self.warn_of_legacy_pair(&it.origin);
            }
            self.stages[id].image.config.labels.insert(label.key.clone(), label.value.clone());
            text.push_str(&format!(" {label}"));
        }
        self.note(id, text)
    }

    fn warn_of_legacy_pair(&self, origin: &Origin) {
        self.report(checks::legacy_key_value_format(&origin.keyword), origin);
    }

    pub(super) fn cmd(&mut self, id: StageId, it: &Cmd) -> Result<()> {
        self.warn_of_repetition(id, "CMD", &it.origin);
        let words = self.default_command(id, &it.command, &it.origin);
        let config = &mut self.stages[id].image.config;
        config.args_escaped = true;
        config.cmd.clone_from(&words);
        self.note(id, format!("CMD {}", format::quoted_words(&words)))
    }

    pub(super) fn entrypoint(&mut self, id: StageId, it: &Entrypoint) -> Result<()> {
        self.warn_of_repetition(id, "ENTRYPOINT", &it.origin);
        let words = self.default_command(id, &it.command, &it.origin);
        let stage = &mut self.stages[id];
        stage.image.config.entrypoint.clone_from(&words);
        // The base's arguments were for its own entry point.
        if !stage.seen.contains_key("CMD") {
            stage.image.config.cmd.clear();
        }
        self.note(id, format!("ENTRYPOINT {}", format::quoted_words(&words)))
    }

    fn default_command(&self, id: StageId, command: &CommandLine, origin: &Origin) -> Vec<String> {
        if !command.prepend_shell {
            return command.words.clone();
        }
        let stage = &self.stages[id];
        if stage.image.config.shell.is_empty() {
            self.report(checks::json_args_recommended(&origin.keyword), origin);
        }
        stage.with_shell(&command.words)
    }

    /// Says that the instruction before, of which there may be only one, has no effect.
    fn warn_of_repetition(&mut self, id: StageId, instruction: &'static str, origin: &Origin) {
        let before = self.stages[id].seen.insert(instruction, origin.ranges.clone());
        if let Some(ranges) = before {
            self.linter.report(checks::multiple_instructions(&origin.keyword), &ranges);
        }
    }

    pub(super) fn healthcheck(&mut self, id: StageId, it: &Healthcheck) -> Result<()> {
        self.warn_of_repetition(id, "HEALTHCHECK", &it.origin);
        let health = &it.health;
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        self.stages[id].image.config.healthcheck = Some(Health {
            test: health.test.clone(),
            interval: nanos(health.interval),
            timeout: nanos(health.timeout),
            start_period: nanos(health.start_period),
            start_interval: nanos(health.start_interval),
            retries: i64::from(health.retries),
        });
        let text = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            format::words(&health.test),
            format_duration(nanos(health.interval)),
            format_duration(nanos(health.timeout)),
            format_duration(nanos(health.start_period)),
            format_duration(nanos(health.start_interval)),
            health.retries
        );
        self.note(id, text)
    }

    pub(super) fn user(&mut self, id: StageId, it: &User) -> Result<()> {
        let stage = &mut self.stages[id];
        stage.state = stage.state.user(&it.user);
        stage.image.config.user.clone_from(&it.user);
        self.note(id, format!("USER {}", it.user))
    }

    pub(super) fn volume(&mut self, id: StageId, it: &Volume) -> Result<()> {
        for path in &it.volumes {
            if path.is_empty() {
                return Err(
                    Error::invalid("VOLUME specified can not be an empty string").hint("write `VOLUME path`")
                );
            }
            self.stages[id].image.config.volumes.insert(path.clone(), Empty {});
        }
        self.note(id, format!("VOLUME {}", format::words(&it.volumes)))
    }

    pub(super) fn stop_signal(&mut self, id: StageId, it: &StopSignal) -> Result<()> {
        if !is_signal(&it.signal) {
            return Err(Error::invalid(format!("invalid signal: {}", it.signal))
                .hint("write a name such as SIGTERM, or a number"));
        }
        self.stages[id].image.config.stop_signal.clone_from(&it.signal);
        self.note(id, format!("STOPSIGNAL {}", it.signal))
    }

    pub(super) fn shell(&mut self, id: StageId, it: &Shell) -> Result<()> {
        self.stages[id].image.config.shell.clone_from(&it.shell);
        self.note(id, format!("SHELL {}", format::words(&it.shell)))
    }
}

impl StageState {
    /// A command line as the program and the arguments that run it.
    pub(super) fn with_shell(&self, words: &[String]) -> Vec<String> {
        let shell: Vec<String> = match (self.image.config.shell.as_slice(), self.image.platform.os.as_str()) {
            ([], super::WINDOWS) => ["cmd", "/S", "/C"].map(str::to_owned).into(),
            ([], _) => ["/bin/sh", "-c"].map(str::to_owned).into(),
            (shell, _) => shell.to_vec(),
        };
        shell.into_iter().chain([words.join(" ")]).collect()
    }
}

/// Whether a text names a signal, by number or by name with or without `SIG`.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let counted = |prefix, highest| {
        let count: Option<&str> = name.strip_prefix(prefix);
        count.is_some_and(|count| (1..=highest).any(|number: u8| number.to_string() == count))
    };
    SIGNALS.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || counted("RTMIN+", 15)
        || counted("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["9", "SIGTERM", "term", "sigrtmin+15", "RTMAX-14", "RTMAX", "64"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["0", "", "SIGFOO", "RTMIN+16", "RTMIN+01", "RTMAX-0"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
