//! From the stages of the file to a graph of stages.

use std::collections::BTreeSet;

use buildkit_frontend_dockerfile_instructions::{Instruction, Stage};
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_frontend_dockerfile_shell::{EmptyEnv, Env as _, Expansion};
use buildkit_util_gotext::quoted;
use buildkit_util_ocispec::Platform;

use crate::budget::size_of_texts;
use crate::convert::Converter;
use crate::error::At as _;
use crate::stage::{Command, SCRATCH, StageId, StageState};
use crate::{Error, Result, platform};

/// What to do about an argument without a value.
const VALUE_HINT: &str =
    "give a value with --opt build-arg:NAME=VALUE, or `ARG NAME=VALUE` before the first FROM";

impl Converter<'_> {
    /// Adds the stages of the file, with the variables in their `FROM` replaced.
    pub(crate) async fn add_stages(&mut self, stages: Vec<Stage>) -> Result<()> {
        let known = self.known_args();
        for (index, mut stage) in stages.into_iter().enumerate() {
            tokio::task::coop::consume_budget().await;
            let ranges = stage.origin.ranges.clone();
            let outer = self.linter.clone();
            self.linter = outer.with_comments(&stage.origin.comments).into_owned();
            let base = self.expand_from(&stage.base_name, &known, &ranges);
            let platform = base.as_ref().ok().map(|_| self.stage_platform(&stage, &known)).transpose();
            self.linter = outer;
            let mut base = base.at(&ranges)?;
            if base.result.is_empty() {
                let text = format!("base name ({}) should not be blank", stage.base_name);
                return Err(Error::invalid(text).hint(VALUE_HINT).at(&ranges));
            }
            stage.base_name = std::mem::take(&mut base.result);
            let mut used = base.matched;

            let mut state = StageState::new(stage);
            state.name.clone_from(&state.stage.name);
            state.outline = self.outline.clone();
            if let Some((platform, args)) = platform?.flatten() {
                state.platform = Some(platform);
                used.extend(args);
            }
            if !state.stage.name.is_empty() {
                let context = self.named_context(&state.stage.name, state.platform.as_ref())?;
                if context.is_some() {
                    state.named_context = context;
                    let id = self.stages.add(state);
                    self.stages[id].base = None;
                    continue;
                }
            } else {
                state.name = format!("stage-{index}");
            }
            let id = self.stages.add(state);
            let stage = &mut self.stages[id];
            stage.outline.used_args.extend(used);
            self.options.budget.take(size_of_texts(stage.outline.used_args.iter().map(String::as_str)))?;
            let is_pulled = stage.stage.base_name != SCRATCH && stage.base.is_none();
            stage.steps = usize::from(is_pulled)
                + stage.stage.instructions.iter().filter(|instruction| is_step(instruction)).count();
            let name = stage.stage.name.clone();
            stage.ignores_cache = self.options.surroundings.ignores_cache(&name);
        }
        Ok(())
    }

    /// Replaces the variables of a word in `FROM`. `known` are those that there are.
    fn expand_from(&self, word: &str, known: &[String], ranges: &[Range]) -> Result<Expansion> {
        let outcome = self.lex.process_word(word, &self.global_args);
        let unmatched = outcome.as_ref().map_or_else(|error| &error.unmatched, |it| &it.unmatched);
        self.warn_of_undefined_args(unmatched, known, ranges);
        outcome.map_err(Error::from)
    }

    /// What `--platform` says, and the arguments that it is made of.
    fn stage_platform(
        &self,
        stage: &Stage,
        known: &[String],
    ) -> Result<Option<(Platform, BTreeSet<String>)>> {
        if stage.platform.is_empty() {
            return Ok(None);
        }
        let ranges = &stage.origin.ranges;
        let word = self
            .expand_from(&stage.platform, known, ranges)
            .map_err(|error| error.context("failed to process arguments for platform ").at(ranges))?;
        self.check_stage_platform(stage, &word);
        let known = self.global_args.names();
        let suggest = |error: Error| match word.unmatched.first() {
            Some(name) => error.suggest(name, &known, true),
            None => error,
        };
        if word.result.is_empty() {
            let text = format!("empty platform value from expression {}", stage.platform);
            return Err(suggest(Error::invalid(text)).hint(VALUE_HINT).at(ranges));
        }
        let platform = platform::parse(&word.result).map_err(|error| {
            suggest(Error::invalid(error.to_string()))
                .context(&format!("failed to parse platform {}", stage.platform))
                .hint("write os/architecture[/variant], such as linux/arm64")
                .at(ranges)
        })?;
        Ok(Some((platform, word.matched)))
    }

    /// The stage that is asked for, or the last.
    pub(crate) fn target(&self) -> Result<StageId> {
        let name = &self.options.config.target;
        if name.is_empty() {
            return self
                .stages
                .len()
                .checked_sub(1)
                .ok_or_else(|| Error::invalid("dockerfile contains no stages to build"));
        }
        self.stages.by_name(name).ok_or_else(|| {
            let text = format!("target stage {} could not be found", quoted(name));
            let names = self.stages.names();
            let error = Error::invalid(text).suggest(name, &names, true);
            if names.is_empty() {
                return error.hint("no stage has a name: write `FROM image AS name`, or build stage 0");
            }
            error.hint(format!("the stages are {}", names.join(", ")))
        })
    }

    /// Finds out which stages need which.
    pub(crate) fn connect_stages(&mut self) -> Result<()> {
        for id in self.stages.ids() {
            let instructions = std::mem::take(&mut self.stages[id].stage.instructions);
            for instruction in instructions {
                let command = self.command(id, instruction, false)?;
                self.stages[id].commands.push(command);
            }
        }
        self.refuse_cycles()?;
        if self.stages.len() == 1 {
            self.stages[0].name.clear();
        }
        Ok(())
    }

    /// An instruction with the stages that it reads from, which the stage then needs.
    pub(crate) fn command(
        &mut self,
        id: StageId,
        instruction: Instruction,
        is_trigger: bool,
    ) -> Result<Command> {
        let ranges = instruction.origin().ranges.clone();
        let sources: Vec<StageId> = match &instruction {
            Instruction::Copy(copy) if !copy.from.is_empty() => vec![self.copy_source(&copy.from, &ranges)?],
            Instruction::Run(run) => run
                .mounts
                .iter()
                .map(|mount| if mount.from.is_empty() { SCRATCH } else { &mount.from })
                .map(|from| self.stages.by_name_or_add(from, &[]))
                .collect(),
            _ => Vec::new(),
        };
        for source in &sources {
            self.stages[id].needs.insert(*source, ranges.clone());
        }
        Ok(Command { instruction, sources, is_trigger })
    }

    fn copy_source(&mut self, from: &str, ranges: &[Range]) -> Result<StageId> {
        let expanded = self.lex.process_word(from, &EmptyEnv).map_err(Error::from)?;
        if expanded.result != from {
            return Err(Error::invalid(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            )
            .at(ranges));
        }
        match from.parse::<i64>() {
            Ok(index) => self.stages.by_index(index).map_err(|error| {
                let last = self.stages.len().saturating_sub(1);
                error.hint(format!("stages are counted from 0, the last one is {last}")).at(ranges)
            }),
            Err(_) => Ok(self.stages.by_name_or_add(from, ranges)),
        }
    }

    /// No stage may need itself, however long the way.
    fn refuse_cycles(&self) -> Result<()> {
        let (mut done, mut on_way) = (BTreeSet::new(), BTreeSet::new());
        for start in self.stages.ids() {
            if !done.insert(start) {
                continue;
            }
            on_way.insert(start);
            // Stages on the way, with what they need that is not looked at, and the lines of what is.
            let mut way = vec![(start, self.stages[start].needs.iter(), &[][..])];
            while let Some((id, needs, lines)) = way.last_mut() {
                let Some((need, ranges)) = needs.next() else {
                    on_way.remove(id);
                    way.pop();
                    continue;
                };
                *lines = ranges;
                if on_way.contains(need) {
                    let stage = &self.stages[start].name;
                    let error = Error::invalid(format!("circular dependency detected on stage: {stage}"))
                        .hint("a stage may only use what stages above it make");
                    return Err(way.iter().fold(error, |error, (_, _, lines)| error.at(lines)));
                }
                if done.insert(*need) {
                    on_way.insert(*need);
                    way.push((*need, self.stages[*need].needs.iter(), &[]));
                }
            }
        }
        Ok(())
    }

    /// Adds the instructions that the base left for the stage. Says whether they need more stages.
    pub(crate) fn add_triggers(&mut self, id: StageId) -> Result<bool> {
        let mut triggers = std::mem::take(&mut self.stages[id].image.config.on_build);
        // Nothing is built upon what is only copied from. Its triggers could name an image that names it again,
        // without end.
        if self.stages[id].is_dispatched {
            return Ok(false);
        }
        if let Some(base) = self.stages[id].base
            && !self.stages[id].has_triggers
        {
            self.stages[id].has_triggers = true;
            triggers.extend(self.stages[base].commands.iter().filter_map(
                |command| match &command.instruction {
                    Instruction::Onbuild(it) => Some(it.expression.clone()),
                    _ => None,
                },
            ));
        }
        self.options.budget.take(4 * size_of_texts(triggers.iter().map(String::as_str)))?;
        let ranges = self.stages[id].stage.origin.ranges.clone();
        let mut commands = Vec::new();
        for trigger in &triggers {
            let instruction =
                crate::trigger::parse(trigger, &ranges).map_err(|error| error.only_at(&ranges))?;
            commands.push(self.command(id, instruction, true).map_err(|error| error.only_at(&ranges))?);
        }
        let needs_more = commands.iter().any(|command| !command.sources.is_empty());
        let stage = &mut self.stages[id];
        stage.steps += commands.len();
        stage.commands.splice(0..0, commands);
        Ok(needs_more)
    }

    /// Whether the global arguments, or their defaults, have a name.
    pub(crate) fn known_args(&self) -> Vec<String> {
        let declared = self.outline.global_args.values().map(|arg| arg.key.clone());
        let set = self.global_args.keys().into_iter().map(str::to_owned);
        declared.chain(set).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Whether progress counts an instruction.
fn is_step(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_)
    )
}
