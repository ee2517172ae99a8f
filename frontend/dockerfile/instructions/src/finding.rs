use buildkit_frontend_dockerfile_parser::Range;

/// What a linter would say of an instruction, seen while it is given its meaning.
///
/// This crate knows no rules: who lints turns a finding into a warning, unless the file or `comments` say
/// that the rule is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was seen.
    pub kind: FindingKind,
    /// The lines of the instruction.
    pub ranges: Vec<Range>,
    /// The comments above it.
    pub comments: Vec<String>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// `MAINTAINER` is used (`MaintainerDeprecated`).
    Maintainer,
    /// The name of a stage is not in lower case (`StageNameCasing`).
    StageNameCasing {
        /// The name as written.
        name: String,
    },
    /// `FROM` and `AS` are not in the same case (`FromAsCasing`).
    FromAsCasing {
        /// `FROM` as written.
        from: String,
        /// `AS` as written.
        as_keyword: String,
    },
    /// The comment right above does not begin with the name that is defined (`InvalidDefinitionDescription`).
    DefinitionDescription {
        /// `FROM` or `ARG`.
        instruction: &'static str,
        /// What it should begin with: the name, or `<arg_key>` when several are defined.
        key: String,
    },
}
