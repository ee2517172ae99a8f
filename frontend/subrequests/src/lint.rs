use std::cmp::Ordering;

use buildkit_solver_errdefs::excerpt;
use buildkit_solver_pb::{Location, Range, SourceInfo};
use buildkit_util_gojson::{Object, Value};

use crate::answer::{Answer, answer_with_text, key};
use crate::describe::{Named, RequestDefinition};

/// The request for what the linter says.
pub const LINT: RequestDefinition = RequestDefinition {
    name: "frontend.lint",
    version: "1.0.0",
    description: "Lint a Dockerfile",
    opts: Some(&[]),
    metadata: &[Named::new("result.json"), Named::new("result.txt"), Named::new("result.statuscode")],
};

/// What the linter says about a build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LintResults {
    warnings: Vec<LintWarning>,
    sources: Vec<SourceInfo>,
    error: Option<BuildError>,
}

/// A rule that is broken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LintWarning {
    /// Name of the rule.
    pub rule: String,
    /// What the rule is about.
    pub description: String,
    /// Where to read more; empty is nowhere.
    pub url: String,
    /// What is wrong here.
    pub detail: String,
    /// Where, with the index that [`LintResults::add_source`] gave; below 0 is no file.
    pub location: Location,
}

/// Why the graph of the build could not be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildError {
    /// The error.
    pub message: String,
    /// Where, as in [`LintWarning`].
    pub location: Location,
}

impl LintResults {
    /// Adds a file that locations may be in; one that is known already is not added again.
    pub fn add_source(&mut self, source: SourceInfo) -> i32 {
        let same = |known: &SourceInfo| {
            known.filename == source.filename
                && known.language == source.language
                && known.data == source.data
        };
        let index = self.sources.iter().position(same).unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        i32::try_from(index).unwrap_or(i32::MAX)
    }

    /// Adds a warning.
    pub fn add_warning(&mut self, warning: LintWarning) {
        self.warnings.push(warning);
    }

    /// Tells that no graph could be made.
    pub fn set_error(&mut self, error: BuildError) {
        self.error = Some(error);
    }

    /// The answer to [`LINT`]. Warnings whose file is not known are not shown to people.
    pub fn to_answer(&self) -> Answer {
        let mut answer = answer_with_text(self, self.text(), LINT.version);
        let is_clean = self.warnings.is_empty() && self.error.is_none();
        let status: &'static [u8] = if is_clean { b"0" } else { b"1" };
        answer.insert(key::STATUS_CODE.to_owned(), status.into());
        answer
    }

    /// The warnings as people get them: by file, then by line.
    fn text(&self) -> Vec<u8> {
        let mut warnings: Vec<&LintWarning> = self.warnings.iter().collect();
        warnings.sort_by(|a, b| self.compare(a, b));
        let mut out = Vec::new();
        for warning in warnings {
            out.extend_from_slice(format!("\nWARNING: {}", warning.rule).as_bytes());
            if !warning.url.is_empty() {
                out.extend_from_slice(format!(" - {}", warning.url).as_bytes());
            }
            out.extend_from_slice(format!("\n{}\n", warning.detail).as_bytes());
            if let Some(source) = self.source(warning) {
                out.extend(excerpt(source, &warning.location.ranges));
            }
        }
        out
    }

    fn source(&self, warning: &LintWarning) -> Option<&SourceInfo> {
        self.sources.get(usize::try_from(warning.location.source_index).ok()?)
    }

    fn compare(&self, a: &LintWarning, b: &LintWarning) -> Ordering {
        // What is missing comes first.
        let file = |warning| self.source(warning).map(|source| &source.filename);
        let line = |warning: &LintWarning| {
            let first = |range: &Range| range.start.map_or(0, |start| start.line);
            warning.location.ranges.first().map(first)
        };
        file(a).cmp(&file(b)).then_with(|| match (file(a).and(line(a)), file(b).and(line(b))) {
            (None, None) => a.rule.cmp(&b.rule),
            (a, b) => a.cmp(&b),
        })
    }
}

impl Value for LintResults {
    fn write_json(&self, out: &mut String) {
        // Lists that never got anything are `null`.
        Object::new(out)
            .field("warnings", &Some(&self.warnings).filter(|warnings| !warnings.is_empty()))
            .field("sources", &Some(&self.sources).filter(|sources| !sources.is_empty()))
            .omit_empty("buildError", &self.error);
    }
}

impl Value for LintWarning {
    fn write_json(&self, out: &mut String) {
        Object::new(out)
            .field("ruleName", &self.rule)
            .omit_empty("description", &self.description)
            .omit_empty("url", &self.url)
            .omit_empty("detail", &self.detail)
            .field("location", &self.location);
    }
}

impl Value for BuildError {
    fn write_json(&self, out: &mut String) {
        Object::new(out).field("message", &self.message).field("location", &self.location);
    }
}
