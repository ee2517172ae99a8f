use buildkit_util_gojson::{Object, Value};
use buildkit_util_tabwriter::{Fill, align};

use crate::answer::{Answer, answer_with_text};

/// What a request is called, and what it takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestDefinition {
    /// The value of the option `requestid`.
    pub name: &'static str,
    /// Version of this definition.
    pub version: &'static str,
    /// For people.
    pub description: &'static str,
    /// Options that it heeds; `None` where none were ever declared.
    pub opts: Option<&'static [Named]>,
    /// Keys of its answer.
    pub metadata: &'static [Named],
}

/// Something with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// What it is; may be empty.
    pub description: &'static str,
}

impl Named {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, description: "" }
    }
}

/// The answers for programs and for people.
pub(crate) const JSON_AND_TEXT: &[Named] = &[Named::new("result.json"), Named::new("result.txt")];

/// The request for what requests there are.
pub const DESCRIBE: RequestDefinition = RequestDefinition {
    name: "frontend.subrequests.describe",
    version: "1.0.0",
    description: "List available subrequest types",
    opts: None,
    metadata: JSON_AND_TEXT,
};

/// Answers [`DESCRIBE`] for a frontend that knows `requests` beside that one.
pub fn describe(requests: &[RequestDefinition]) -> Answer {
    let all: Vec<RequestDefinition> = requests.iter().copied().chain([DESCRIBE]).collect();
    let mut lines = vec!["NAME\tVERSION\tDESCRIPTION".to_owned()];
    lines.extend(all.iter().map(|request| {
        let name = request.name.strip_prefix("frontend.").unwrap_or(request.name);
        format!("{name}\t{}\t{}", request.version, request.description)
    }));
    answer_with_text(&all, align(&lines.join("\n"), Fill::Spaces(1)), DESCRIBE.version)
}

impl Value for RequestDefinition {
    fn write_json(&self, out: &mut String) {
        let nothing: Option<&[Named]> = None;
        Object::new(out)
            .field("name", self.name)
            .field("version", self.version)
            .field("type", "rpc")
            .field("description", self.description)
            .field("opts", &self.opts)
            .field("inputs", &nothing)
            .field("metadata", self.metadata)
            .field("refs", &nothing);
    }
}

impl Value for Named {
    fn write_json(&self, out: &mut String) {
        Object::new(out).field("name", self.name).field("description", self.description);
    }
}
