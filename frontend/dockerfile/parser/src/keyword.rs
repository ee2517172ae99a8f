/// The keywords that there are, in lower case.
pub const KEYWORDS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// How the arguments of a keyword are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `ARG`: words with quotes.
    Words,
    /// `ENV`, `LABEL`: pairs. Holds the keyword for errors.
    Pairs(&'static str),
    /// Words at blanks, whatever the quotes.
    List,
    /// A JSON array, or words at blanks.
    JsonOrList,
    /// A JSON array, or the rest of the line.
    JsonOrLine,
    /// The rest of the line.
    Line,
    /// A type, and a JSON array or the rest of the line.
    Health,
    /// Another instruction.
    Trigger,
    /// Not known: not read at all.
    Ignored,
}

impl Form {
    pub(crate) fn of(keyword: &str) -> Self {
        match keyword.to_lowercase().as_str() {
            "add" | "copy" | "volume" => Self::JsonOrList,
            "arg" => Self::Words,
            "cmd" | "entrypoint" | "run" | "shell" => Self::JsonOrLine,
            "env" => Self::Pairs("ENV"),
            "label" => Self::Pairs("LABEL"),
            "expose" | "from" => Self::List,
            "healthcheck" => Self::Health,
            "maintainer" | "stopsignal" | "user" | "workdir" => Self::Line,
            "onbuild" => Self::Trigger,
            _ => Self::Ignored,
        }
    }
}

/// Whether the keyword's instruction may announce here-documents.
pub(crate) fn takes_heredocs(keyword: &str) -> bool {
    ["add", "copy", "run"].iter().any(|known| keyword.to_lowercase() == *known)
}
