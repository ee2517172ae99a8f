use buildkit_solver_pb::Location;
use buildkit_util_gojson::{Base64, Object, Value};
use buildkit_util_tabwriter::{Fill, align};
use bytes::Bytes;

use crate::answer::{Answer, answer_with_text};
use crate::describe::{JSON_AND_TEXT, Named, RequestDefinition};

/// The request for what a stage takes.
pub const OUTLINE: RequestDefinition = RequestDefinition {
    name: "frontend.outline",
    version: "1.0.0",
    description: "List all parameters current build target supports",
    opts: Some(&[Named { name: "target", description: "Target build stage" }]),
    metadata: JSON_AND_TEXT,
};

/// What the build of one stage takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outline {
    /// Name of the stage; empty if it has none.
    pub name: String,
    /// What the file says about it.
    pub description: String,
    /// Build arguments.
    pub args: Vec<OutlineArg>,
    /// Secrets.
    pub secrets: Vec<OutlineSecret>,
    /// SSH agents.
    pub ssh: Vec<OutlineSsh>,
    /// Caches that outlive the build.
    pub cache: Vec<CacheArea>,
    /// The files that locations are in, by their `source_index`.
    pub sources: Vec<Bytes>,
}

/// A build argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the file says about it.
    pub description: String,
    /// What it is if nobody sets it, or was set to.
    pub value: String,
    /// Where it is declared.
    pub location: Option<Location>,
}

/// A secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutlineSecret {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is used first.
    pub location: Option<Location>,
}

/// An SSH agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutlineSsh {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is used first.
    pub location: Option<Location>,
}

/// A cache that outlives the build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheArea {
    /// Its id.
    pub id: String,
    /// Where it is used first.
    pub location: Option<Location>,
}

impl Outline {
    /// The answer to [`OUTLINE`].
    pub fn to_answer(&self) -> Answer {
        answer_with_text(self, self.text(), OUTLINE.version)
    }

    fn text(&self) -> String {
        let mut out = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut lines = vec![format!("TARGET:\t{name}")];
            if !self.description.is_empty() {
                lines.push(format!("DESCRIPTION:\t{}", self.description));
            }
            out.push_str(&align(&lines.join("\n"), Fill::Spaces(1)));
            out.push('\n');
        }
        let mut table = |head: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let lines: Vec<String> = [head.to_owned()].into_iter().chain(lines).collect();
                out.push_str(&align(&lines.join("\n"), Fill::Spaces(3)));
                out.push('\n');
            }
        };
        let args = self.args.iter().map(|arg| format!("{}\t{}\t{}", arg.name, arg.value, arg.description));
        table("BUILD ARG\tVALUE\tDESCRIPTION", args.collect());
        let line = |name: &str, required| format!("{name}\t{}", if required { "true" } else { "" });
        let secrets = self.secrets.iter().map(|secret| line(&secret.name, secret.required));
        table("SECRET\tREQUIRED", secrets.collect());
        table("SSH\tREQUIRED", self.ssh.iter().map(|ssh| line(&ssh.name, ssh.required)).collect());
        out
    }
}

impl Value for Outline {
    fn write_json(&self, out: &mut String) {
        let sources: Vec<Base64<'_>> = self.sources.iter().map(|source| Base64(source)).collect();
        Object::new(out)
            .omit_empty("name", &self.name)
            .omit_empty("description", &self.description)
            .omit_empty("args", &self.args)
            .omit_empty("secrets", &self.secrets)
            .omit_empty("ssh", &self.ssh)
            .omit_empty("cache", &self.cache)
            .omit_empty("sources", &sources);
    }
}

impl Value for OutlineArg {
    fn write_json(&self, out: &mut String) {
        Object::new(out)
            .field("name", &self.name)
            .omit_empty("description", &self.description)
            .omit_empty("value", &self.value)
            .omit_empty("location", &self.location);
    }
}

macro_rules! required_input {
    ($type:ty) => {
        impl Value for $type {
            fn write_json(&self, out: &mut String) {
                Object::new(out)
                    .field("name", &self.name)
                    .omit_empty("required", &self.required)
                    .omit_empty("location", &self.location);
            }
        }
    };
}
required_input!(OutlineSecret);
required_input!(OutlineSsh);

impl Value for CacheArea {
    fn write_json(&self, out: &mut String) {
        Object::new(out).field("ID", &self.id).omit_empty("location", &self.location);
    }
}
