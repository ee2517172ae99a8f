use std::collections::BTreeSet;

/// What became of a word, and which variables it used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The word with its variables replaced and its quotes removed.
    pub result: String,
    /// The same, split at blanks that are not quoted.
    pub words: Vec<String>,
    /// The variables used that were set.
    pub matched: BTreeSet<String>,
    /// The variables used that were not set, whatever the operator made of that. The linter reports these.
    pub unmatched: BTreeSet<String>,
}
