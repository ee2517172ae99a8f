use buildkit_solver_pb::Location;
use buildkit_util_gojson::{Base64, Object, Value};
use buildkit_util_tabwriter::{Fill, align};
use bytes::Bytes;

use crate::answer::{Answer, answer_with_text};
use crate::describe::{JSON_AND_TEXT, RequestDefinition};

/// The request for the stages that can be built.
pub const TARGETS: RequestDefinition = RequestDefinition {
    name: "frontend.targets",
    version: "1.0.0",
    description: "List all targets current build supports",
    opts: Some(&[]),
    metadata: JSON_AND_TEXT,
};

/// The stages that can be built.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetList {
    /// The stages, in the order of the file.
    pub targets: Vec<Target>,
    /// The files that locations are in, by their `source_index`.
    pub sources: Vec<Bytes>,
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Its name; empty if it has none.
    pub name: String,
    /// Whether it is what is built when none is asked for.
    pub default: bool,
    /// What the file says about it.
    pub description: String,
    /// What it is based on, as written.
    pub base: String,
    /// Its platform, as written.
    pub platform: String,
    /// Where it begins.
    pub location: Option<Location>,
}

impl TargetList {
    /// The answer to [`TARGETS`].
    pub fn to_answer(&self) -> Answer {
        let mut lines = vec!["TARGET\tDESCRIPTION".to_owned()];
        lines.extend(self.targets.iter().map(|target| {
            let name = match (target.name.as_str(), target.default) {
                ("", true) => "(default)".to_owned(),
                (name, true) => format!("{name} (default)"),
                (name, false) => name.to_owned(),
            };
            format!("{name}\t{}", target.description)
        }));
        answer_with_text(self, align(&lines.join("\n"), Fill::Spaces(1)), TARGETS.version)
    }
}

impl Value for TargetList {
    fn write_json(&self, out: &mut String) {
        // Lists that never got anything are `null`.
        let targets = Some(&self.targets).filter(|targets| !targets.is_empty());
        let sources: Vec<Base64<'_>> = self.sources.iter().map(|source| Base64(source)).collect();
        Object::new(out)
            .field("targets", &targets)
            .field("sources", &Some(sources).filter(|sources| !sources.is_empty()));
    }
}

impl Value for Target {
    fn write_json(&self, out: &mut String) {
        Object::new(out)
            .omit_empty("name", &self.name)
            .omit_empty("default", &self.default)
            .omit_empty("description", &self.description)
            .omit_empty("base", &self.base)
            .omit_empty("platform", &self.platform)
            .omit_empty("location", &self.location);
    }
}
