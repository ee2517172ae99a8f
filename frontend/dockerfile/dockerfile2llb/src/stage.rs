use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use buildkit_client_llb::{State, scratch};
use buildkit_frontend_dockerfile_instructions::{ArgDefinition, Instruction, Origin, Stage};
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_util_ocispec::{DockerImage, Platform};

use crate::budget::{size_of_args, size_of_image};
use crate::outline::Capture;
use crate::{Budget, Error, NamedContext, Result};

/// Index of a stage.
pub(crate) type StageId = usize;

/// The name of the empty image.
pub(crate) const SCRATCH: &str = "scratch";

/// An instruction, and the stages that it reads from.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) instruction: Instruction,
    pub(crate) sources: Vec<StageId>,
    /// It comes from an `ONBUILD` of the stage's base.
    pub(crate) is_trigger: bool,
}

/// One stage while it is converted: of the file, or an image or named context that only copies and mounts name.
pub(crate) struct StageState {
    pub(crate) stage: Stage,
    pub(crate) commands: Vec<Command>,
    /// The stage that this one begins with.
    pub(crate) base: Option<StageId>,
    /// Stages that instructions read from, with the lines of the last that does.
    pub(crate) needs: BTreeMap<StageId, Vec<Range>>,
    /// What takes the place of the stage.
    pub(crate) named_context: Option<Arc<dyn NamedContext>>,
    /// It is not a stage of the file.
    pub(crate) is_unregistered: bool,

    pub(crate) state: State,
    pub(crate) image: DockerImage,
    /// The image that it was built on, as it was.
    pub(crate) base_image: Option<Arc<DockerImage>>,
    pub(crate) platform: Option<Platform>,
    pub(crate) is_resolved: bool,
    pub(crate) is_dispatched: bool,
    pub(crate) has_triggers: bool,
    pub(crate) ignores_cache: bool,

    pub(crate) build_args: Vec<ArgDefinition>,
    /// What is used of the build context.
    pub(crate) context_paths: BTreeSet<String>,
    /// Which stage keeps what is used of this one's tree: the lowest that it is built on.
    pub(crate) used_paths: StageId,

    /// As steps are named after; empty if the file has but one.
    pub(crate) name: String,
    pub(crate) step: usize,
    pub(crate) steps: usize,
    pub(crate) is_in_trigger: bool,
    pub(crate) outline: Capture,
    pub(crate) scans_stage: bool,
    pub(crate) scans_context: bool,

    /// `WORKDIR` was used in this file.
    pub(crate) has_workdir: bool,
    /// Lines of instructions of which only the last one counts.
    pub(crate) seen: BTreeMap<&'static str, Vec<Range>>,
}

impl StageState {
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            stage,
            commands: Vec::new(),
            base: None,
            needs: BTreeMap::new(),
            named_context: None,
            is_unregistered: false,
            state: scratch(),
            image: DockerImage::default(),
            base_image: None,
            platform: None,
            is_resolved: false,
            is_dispatched: false,
            has_triggers: false,
            ignores_cache: false,
            build_args: Vec::new(),
            context_paths: BTreeSet::new(),
            used_paths: usize::MAX,
            name: String::new(),
            step: 0,
            steps: 0,
            is_in_trigger: false,
            outline: Capture::default(),
            scans_stage: false,
            scans_context: false,
            has_workdir: false,
            seen: BTreeMap::new(),
        }
    }

    /// Something that is named where a stage could be.
    fn unregistered(name: &str, ranges: &[Range]) -> Self {
        let stage = Stage {
            origin: Origin { ranges: ranges.to_vec(), ..Origin::default() },
            name: String::new(),
            name_as_written: None,
            as_keyword: None,
            base_name: name.to_owned(),
            platform: String::new(),
            doc_comment: None,
            instructions: Vec::new(),
        };
        Self { is_unregistered: true, ..Self::new(stage) }
    }

    /// The operating system that it is for.
    pub(crate) fn os(&self) -> &str {
        self.platform.as_ref().map_or("", |platform| &platform.os)
    }
}

/// The stages of a file, in its order, and behind them what else is named.
#[derive(Default)]
pub(crate) struct Stages {
    all: Vec<StageState>,
    by_name: BTreeMap<String, StageId>,
    /// What is used of each stage's tree; see [`StageState::used_paths`].
    used: Vec<BTreeSet<String>>,
}

impl Stages {
    pub(crate) fn add(&mut self, mut stage: StageState) -> StageId {
        let id = self.all.len();
        stage.used_paths = id;
        self.used.push(BTreeSet::new());
        if let Some(&base) = self.by_name.get(&stage.stage.base_name) {
            stage.base = Some(base);
            stage.outline = self.all[base].outline.clone();
        }
        if !stage.stage.name.is_empty() {
            self.by_name.insert(stage.stage.name.to_lowercase(), id);
        }
        self.all.push(stage);
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn ids(&self) -> std::ops::Range<StageId> {
        0..self.all.len()
    }

    /// Names of stages, for suggestions.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all.iter().map(|stage| stage.name.clone()).filter(|name| !name.is_empty()).collect()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<StageId> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// The stage of this name, or what else it may be the name of.
    pub(crate) fn by_name_or_add(&mut self, name: &str, ranges: &[Range]) -> StageId {
        self.by_name(name).unwrap_or_else(|| self.add(StageState::unregistered(name, ranges)))
    }

    pub(crate) fn by_index(&self, index: i64) -> Result<StageId> {
        usize::try_from(index)
            .ok()
            .filter(|index| *index < self.all.len())
            .ok_or_else(|| Error::invalid(format!("invalid stage index {index}")))
    }

    /// Marks a path of a stage's tree as used; `/` is all of it.
    pub(crate) fn mark_used(&mut self, stage: StageId, path: String) {
        let owner = self.all[stage].used_paths;
        self.used[owner].insert(path);
    }

    /// What is used of a stage's tree.
    pub(crate) fn used(&self, stage: StageId) -> &BTreeSet<String> {
        &self.used[self.all[stage].used_paths]
    }

    /// Takes over from the base what it has become.
    pub(crate) fn inherit(&mut self, id: StageId, budget: &Budget) -> Result<()> {
        let Some(base) = self.all[id].base else { return Ok(()) };
        let base = &self.all[base];
        budget.take(size_of_image(&base.image) + size_of_args(&base.build_args))?;
        let (state, platform, image) = (base.state.clone(), base.platform.clone(), base.image.clone());
        let (base_image, args) = (base.base_image.clone(), base.build_args.clone());
        let (used_paths, has_workdir) = (base.used_paths, base.has_workdir);
        let stage = &mut self.all[id];
        (stage.state, stage.platform, stage.image, stage.base_image) = (state, platform, image, base_image);
        stage.image.config.on_build.clear();
        (stage.used_paths, stage.has_workdir) = (used_paths, has_workdir);
        stage.build_args.extend(args);
        Ok(())
    }

    /// The stages that the result of one needs, itself among them.
    pub(crate) fn reachable(&self, target: StageId) -> BTreeSet<StageId> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![target]);
        while let Some(id) = next.pop() {
            if seen.insert(id) {
                next.extend(self.all[id].base);
                next.extend(self.all[id].needs.keys());
            }
        }
        seen
    }
}

impl std::ops::Index<StageId> for Stages {
    type Output = StageState;

    fn index(&self, id: StageId) -> &StageState {
        &self.all[id]
    }
}

impl std::ops::IndexMut<StageId> for Stages {
    fn index_mut(&mut self, id: StageId) -> &mut StageState {
        &mut self.all[id]
    }
}
