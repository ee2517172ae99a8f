//! From instructions to ops and to the image's configuration.

mod arg;
mod config;
mod copy;
mod expose;
mod history;
mod mounts;
mod ports;
mod run;
mod source;
mod workdir;

use buildkit_frontend_dockerfile_instructions::{Instruction, Origin};
use buildkit_frontend_dockerfile_shell::Lex;
use buildkit_util_gotext::parse_bool;

use crate::budget::size_of_pairs;
use crate::convert::Converter;
use crate::env::{StateEnv, name_and_value, set_in_list};
use crate::stage::StageId;
use crate::{Error, Result, epoch, paths};

pub(crate) use copy::is_http_source;
pub(crate) use source::{GitAdd, digest, file_name};

const WINDOWS: &str = "windows";

/// Arguments that steer scans of the image: they are no variables of steps.
const SCAN_CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";
const SCAN_STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";

impl Converter<'_> {
    /// Converts the instructions of one stage, whose base is converted.
    pub(crate) async fn dispatch_stage(&mut self, id: StageId) -> Result<()> {
        self.stages.inherit(id, &self.options.budget)?;
        let ranges = self.stages[id].stage.origin.ranges.clone();
        let target = self.platforms.target.clone();
        let hostname = self.options.config.hostname.clone();
        let network = self.options.config.network;
        let stage = &mut self.stages[id];
        stage.is_dispatched = true;
        let os = stage.platform.get_or_insert(target).os.clone();

        let env = &mut stage.image.config.env;
        if os != WINDOWS && !env.iter().any(|variable| name_and_value(variable).0 == "PATH") {
            set_in_list(env, [("PATH", paths::default_path(&os))]);
        }
        stage.state =
            stage.state.envs(stage.image.config.env.iter().map(|variable| name_and_value(variable)));
        if !hostname.is_empty() {
            stage.state = stage.state.hostname(&hostname);
        }
        let dir = stage.image.config.working_dir.clone();
        if !dir.is_empty() {
            stage.set_dir(&dir).map_err(|error| error.at(&ranges))?;
        }
        if !stage.image.config.user.is_empty() {
            stage.state = stage.state.user(&stage.image.config.user);
        }
        stage.state = stage.state.network(network);

        for command in std::mem::take(&mut self.stages[id].commands) {
            // Long files do not keep others from working, nor go on when nobody wants them any more.
            tokio::task::coop::consume_budget().await;
            let ranges = command.instruction.origin().ranges.clone();
            self.stages[id].is_in_trigger = command.is_trigger;
            let outer = self.linter.clone();
            self.linter = outer.with_comments(&command.instruction.origin().comments).into_owned();
            let result = self.dispatch(id, command.instruction, &command.sources);
            self.linter = outer;
            result.map_err(|error| error.at(&ranges))?;
        }
        self.note_scans(id);
        Ok(())
    }

    fn dispatch(&mut self, id: StageId, instruction: Instruction, sources: &[StageId]) -> Result<()> {
        let instruction = self.expand(id, instruction)?;
        match &instruction {
            Instruction::Maintainer(it) => self.maintainer(id, it),
            Instruction::Env(it) => self.env(id, it),
            Instruction::Run(it) => self.run(id, it, sources),
            Instruction::Workdir(it) => self.workdir(id, it),
            Instruction::Add(it) => self.add(id, it),
            Instruction::Copy(it) => self.copy(id, it, sources.first().copied()),
            Instruction::Label(it) => self.label(id, it),
            Instruction::Onbuild(it) => {
                self.stages[id].image.config.on_build.push(it.expression.clone());
                Ok(())
            }
            Instruction::Cmd(it) => self.cmd(id, it),
            Instruction::Entrypoint(it) => self.entrypoint(id, it),
            Instruction::Healthcheck(it) => self.healthcheck(id, it),
            Instruction::Expose(it) => self.expose(id, it),
            Instruction::User(it) => self.user(id, it),
            Instruction::Volume(it) => self.volume(id, it),
            Instruction::StopSignal(it) => self.stop_signal(id, it),
            Instruction::Shell(it) => self.shell(id, it),
            Instruction::Arg(it) => self.arg(id, it),
        }
    }

    /// The instruction with the variables replaced in those of its words that may have some. Definitions of
    /// arguments wait: their defaults may not be needed.
    fn expand(&mut self, id: StageId, mut instruction: Instruction) -> Result<Instruction> {
        if matches!(instruction, Instruction::Arg(_)) {
            return Ok(instruction);
        }
        let env = StateEnv(self.stages[id].state.clone());
        let origin = instruction.origin().clone();
        let lex = self.lex.clone();
        instruction.expand(&mut |word: &str| self.process_word(id, &lex, word, &env, &origin))?;
        let raw = self.document_lex.clone();
        instruction.expand_raw(&mut |text: &str| self.process_word(id, &raw, text, &env, &origin))?;
        Ok(instruction)
    }

    /// Replaces variables, and warns of those that are not set: also when something else is wrong.
    fn process_word(
        &self,
        id: StageId,
        lex: &Lex,
        word: &str,
        env: &StateEnv,
        origin: &Origin,
    ) -> Result<String> {
        let outcome = lex.process_word(word, env);
        let unmatched = outcome.as_ref().map_or_else(|error| &error.unmatched, |it| &it.unmatched);
        self.warn_of_unset(id, origin, env, unmatched);
        Ok(outcome.map_err(Error::from)?.result)
    }

    /// Whether the stage, or the context, is to be scanned too.
    fn note_scans(&mut self, id: StageId) {
        let global = |name| buildkit_frontend_dockerfile_shell::Env::get(&self.global_args, name);
        let stage = &self.stages[id];
        let [context, own] = [SCAN_CONTEXT, SCAN_STAGE].map(|name| {
            let mut is_on = global(name).is_some_and(|value| is_enabled(&stage.name, value));
            for value in
                stage.build_args.iter().filter(|arg| arg.key == name).filter_map(|arg| arg.value.as_ref())
            {
                is_on = is_enabled(&stage.name, value);
            }
            is_on
        });
        let stage = &mut self.stages[id];
        stage.scans_context |= context;
        stage.scans_stage |= own;
    }

    /// Counts the variables of a stage, which a step gets a copy of.
    fn take_variables(&self, id: StageId) -> Result<()> {
        self.options.budget.take(self.size_of_variables(id))
    }

    /// Counts the variables of a stage, which are copied in order to set one: that takes time, but the copy takes the
    /// place of what was there.
    fn pass_variables(&self, id: StageId) -> Result<()> {
        self.options.budget.take(self.size_of_variables(id) / 16)
    }

    fn size_of_variables(&self, id: StageId) -> usize {
        let variables = self.stages[id].state.get_envs().iter();
        size_of_pairs(variables.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// When files that instructions make are said to be made, if that is fixed.
    fn created(&self) -> Option<std::time::SystemTime> {
        self.epoch.map(epoch::system_time)
    }
}

/// Whether a truth value is true, or a list has the name of the stage.
fn is_enabled(stage: &str, value: &str) -> bool {
    parse_bool(value).unwrap_or_else(|| value.split(',').any(|name| name == stage))
}
