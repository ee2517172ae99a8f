//! Where on the way through a file its linter is asked.

use std::collections::BTreeSet;

use buildkit_frontend_dockerfile_instructions::{Arg, Origin, Stage};
use buildkit_frontend_dockerfile_linter::checks::{self, CaseMajority, StageNames};
use buildkit_frontend_dockerfile_linter::{Linter, Violation};
use buildkit_frontend_dockerfile_parser::Range;
use buildkit_frontend_dockerfile_shell::{Env, Expansion, Lex};
use buildkit_util_ocispec::Platform;
use buildkit_util_suggest::search;

use crate::args;
use crate::convert::Converter;
use crate::env::EnvList;
use crate::platform::{self, format_all};
use crate::stage::StageId;

/// Arguments with this prefix are never in the environment.
const SCAN_PREFIX: &str = "BUILDKIT_SBOM_SCAN_";

/// Most names that are searched for one that is near to another.
const MOST_NAMES: usize = 1000;

/// The name that was probably meant.
fn nearest<S: AsRef<str>>(name: &str, known: &[S]) -> Option<String> {
    // Whoever has more names is not helped by going through all of them for each mistake.
    if known.len() > MOST_NAMES { None } else { search(name, known, true) }
}

pub(crate) fn stage_names(stages: &[Stage], linter: &Linter) {
    let mut names = StageNames::default();
    for stage in stages.iter().filter(|stage| !stage.name.is_empty()) {
        linter.report(checks::reserved_stage_name(&stage.name), &stage.origin.ranges);
        linter.report(names.add(&stage.name), &stage.origin.ranges);
    }
}

/// Keywords are in one case, all of them in the same.
pub(crate) fn keyword_casing(stages: &[Stage], linter: &Linter) {
    let origins = || {
        stages.iter().flat_map(|stage| {
            let instructions = stage.instructions.iter().map(|instruction| instruction.origin());
            std::iter::once(&stage.origin).chain(instructions)
        })
    };
    let majority = CaseMajority::of(origins().map(|origin| origin.keyword.as_str()));
    for origin in origins() {
        linter.report(majority.check(&origin.keyword), &origin.ranges);
    }
}

/// `FROM` names an image, or a stage, even when nobody gives an argument.
pub(crate) fn default_bases(
    stages: &[Stage],
    lex: &Lex,
    args: &EnvList,
    definitions: &[Arg],
    linter: &Linter,
) {
    // What is wrong with them is an error later.
    let Ok((args, _)) = args::global(args.clone(), lex, definitions, &Default::default()) else { return };
    for stage in stages {
        let Ok(base) = lex.process_word(&stage.base_name, &args) else { return };
        linter.report(checks::default_base_name(&stage.base_name, &base), &stage.origin.ranges);
    }
}

pub(crate) fn base_platform(
    linter: &Linter,
    name: &str,
    wanted: &Platform,
    found: &Platform,
    ranges: &[Range],
) {
    if (&wanted.os, &wanted.architecture) != (&found.os, &found.architecture) {
        let [wanted, found] = [wanted, found].map(|platform| format_all(&platform.normalized()));
        linter.report(checks::base_image_platform(name, &wanted, &found), ranges);
    }
}

impl Converter<'_> {
    pub(crate) fn report(&self, violation: impl Into<Option<Violation>>, origin: &Origin) {
        self.linter.report(violation, &origin.ranges);
    }

    /// Variables of `FROM` are global arguments.
    pub(crate) fn warn_of_undefined_args(
        &self,
        unmatched: &BTreeSet<String>,
        known: &[String],
        ranges: &[Range],
    ) {
        for name in unmatched.iter().filter(|name| known.binary_search(name).is_err()) {
            let near = nearest(name, known);
            self.linter.report(checks::undefined_arg_in_from(name, near.as_deref()), ranges);
        }
    }

    pub(crate) fn check_stage_platform(&self, stage: &Stage, word: &Expansion) {
        let target = self.global_args.get("TARGETPLATFORM").unwrap_or_default();
        self.report(checks::redundant_target_platform(&stage.platform, word, target), &stage.origin);
        if let Ok(platform) = platform::parse(&word.result) {
            let (os, architecture) = (&platform.os, &platform.architecture);
            self.report(checks::constant_platform(&stage.name, word, os, architecture), &stage.origin);
        }
    }

    /// Variables that are used, but never set.
    pub(crate) fn warn_of_unset(
        &self,
        id: StageId,
        origin: &Origin,
        env: &dyn Env,
        unmatched: &BTreeSet<String>,
    ) {
        let declared = |name: &str| self.stages[id].build_args.iter().any(|arg| arg.key == name);
        let mut unset =
            unmatched.iter().filter(|name| !declared(name) && !name.starts_with(SCAN_PREFIX)).peekable();
        if unset.peek().is_none() {
            return;
        }
        let known = env.keys();
        for name in unset {
            self.report(checks::undefined_var(name, nearest(name, &known).as_deref()), origin);
        }
    }
}
