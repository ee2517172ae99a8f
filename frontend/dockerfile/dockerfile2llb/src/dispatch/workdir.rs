use buildkit_client_llb::{Constrained as _, FileActions, mkdir};
use buildkit_client_llb_sourceresolver::platform_to;
use buildkit_frontend_dockerfile_instructions::Workdir;
use buildkit_frontend_dockerfile_linter::checks;

use crate::convert::Converter;
use crate::env::StateEnv;
use crate::stage::{StageId, StageState};
use crate::{Result, name, paths};

impl StageState {
    /// Makes a directory the working directory; returns it with slashes.
    pub(super) fn set_dir(&mut self, path: &str) -> Result<String> {
        let os = self.os().to_owned();
        let dir = paths::working_dir(&self.image.config.working_dir, path, &os)
            .map_err(|error| error.context("normalizing workdir"))?;
        let with_slashes = paths::to_slash(&dir, &os);
        self.image.config.working_dir = dir;
        self.state = self.state.dir(&with_slashes);
        Ok(with_slashes)
    }
}

impl Converter<'_> {
    pub(super) fn workdir(&mut self, id: StageId, it: &Workdir) -> Result<()> {
        // A relative directory counts from the one before, so mending the first mends all.
        let stage = &self.stages[id];
        if !stage.has_workdir && !paths::is_absolute(&it.path, stage.os()) {
            self.report(checks::workdir_relative_path(&it.path), &it.origin);
        }
        let stage = &mut self.stages[id];
        stage.has_workdir = true;
        let dir = stage.set_dir(&it.path)?;
        if dir == "/" {
            return self.note(id, format!("WORKDIR {dir}"));
        }
        let mut action = mkdir(&dir, 0o755).parents();
        if !stage.image.config.user.is_empty() {
            action = action.owner(stage.image.config.user.as_str());
        }
        if let Some(created) = self.created() {
            action = action.created(created);
        }
        let name = self.step_name(id, &it.origin.code);
        let ranges = name::llb_ranges(&it.origin.ranges);
        let stage = &mut self.stages[id];
        let mut op = FileActions::new().then(action).custom_name(&name);
        op = op.location(&self.options.source_map, ranges);
        if let Some(platform) = &stage.platform {
            op = op.platform(platform_to(platform));
        }
        stage.state = stage.state.file(op);
        self.note_layer(id, format!("WORKDIR {dir}"))
    }

    /// Name of the step of an instruction; counts it.
    pub(super) fn step_name(&mut self, id: StageId, code: &str) -> String {
        let env = StateEnv(self.stages[id].state.clone());
        let text = name::expanded(&self.lex, code, &env);
        self.named_step(id, &text)
    }

    /// Name of a step with this text; counts it.
    pub(super) fn named_step(&mut self, id: StageId, text: &str) -> String {
        let env = StateEnv(self.stages[id].state.clone());
        let with_platform = self.options.config.multi_platform;
        let stage = &mut self.stages[id];
        let platform = stage.platform.clone().unwrap_or_else(|| self.platforms.target.clone());
        name::step(stage, text, with_platform, Some(&platform), &env)
    }
}
