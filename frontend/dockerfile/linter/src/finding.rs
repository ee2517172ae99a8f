use buildkit_frontend_dockerfile_instructions::{Finding, FindingKind};

use crate::{Linter, Violation, checks};

fn violation(kind: &FindingKind) -> Option<Violation> {
    match kind {
        FindingKind::Maintainer => Some(checks::maintainer_deprecated()),
        FindingKind::StageNameCasing { name } => checks::stage_name_casing(name),
        FindingKind::FromAsCasing { from, as_keyword } => checks::from_as_casing(from, as_keyword),
        FindingKind::DefinitionDescription { instruction, key } => {
            Some(checks::definition_description(instruction, key))
        }
    }
}

impl Linter {
    /// Tells of what was seen while an instruction was given its meaning.
    pub fn report_finding(&self, finding: &Finding) {
        self.with_comments(&finding.comments).report(violation(&finding.kind), &finding.ranges);
    }
}
