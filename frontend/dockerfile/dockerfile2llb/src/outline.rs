//! What a build can be given: arguments, secrets and SSH agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use buildkit_frontend_dockerfile_instructions::ArgDefinition;
use buildkit_frontend_dockerfile_parser::Range;

/// What was seen on the way to a stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    /// Definitions before the first stage.
    pub(crate) global_args: Arc<BTreeMap<String, ArgInfo>>,
    /// Definitions in the stage.
    pub(crate) own_args: BTreeMap<String, ArgInfo>,
    pub(crate) used_args: BTreeSet<String>,
    pub(crate) secrets: BTreeMap<String, Needed>,
    pub(crate) ssh: BTreeMap<String, Needed>,
}

/// One definition of an argument.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArgInfo {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) doc_comment: Option<String>,
    /// Arguments that its default is made of.
    pub(crate) needs: BTreeSet<String>,
    pub(crate) ranges: Vec<Range>,
}

/// A secret or an agent.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    pub(crate) is_required: bool,
    pub(crate) ranges: Vec<Range>,
}

impl ArgInfo {
    pub(crate) fn new(arg: &ArgDefinition, ranges: &[Range]) -> Self {
        Self {
            key: arg.key.clone(),
            value: arg.value_or_empty().to_owned(),
            doc_comment: arg.doc_comment.clone(),
            needs: BTreeSet::new(),
            ranges: ranges.to_vec(),
        }
    }
}

impl Capture {
    /// The definition of an argument that counts in the stage.
    pub(crate) fn arg(&self, name: &str) -> Option<&ArgInfo> {
        self.own_args.get(name).or_else(|| self.global_args.get(name))
    }

    pub(crate) fn note_secret(&mut self, id: &str, is_required: bool, ranges: &[Range]) {
        note(&mut self.secrets, id, is_required, ranges);
    }

    pub(crate) fn note_ssh(&mut self, id: &str, is_required: bool, ranges: &[Range]) {
        note(&mut self.ssh, id, is_required, ranges);
    }

    /// The used arguments, and those that their defaults are made of.
    pub(crate) fn all_used(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut next: Vec<&String> = self.used_args.iter().collect();
        while let Some(name) = next.pop() {
            if all.insert(name.clone()) {
                next.extend(self.arg(name).iter().flat_map(|arg| &arg.needs));
            }
        }
        all
    }
}

/// The first mention counts.
fn note(known: &mut BTreeMap<String, Needed>, id: &str, is_required: bool, ranges: &[Range]) {
    known.entry(id.to_owned()).or_insert_with(|| Needed { is_required, ranges: ranges.to_vec() });
}
