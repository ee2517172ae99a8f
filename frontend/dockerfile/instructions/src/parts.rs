use std::time::Duration;

/// A variable or a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The name, which may hold variables itself.
    pub key: String,
    /// The value.
    pub value: String,
    /// Written in the legacy form `ENV key value`, without `=`.
    pub legacy: bool,
}

/// `key=value`.
impl std::fmt::Display for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// A command in one of its two forms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Shell form: the whole line as one string, or nothing. Exec form: program and arguments.
    pub words: Vec<String>,
    /// The here-documents, in their order; `RUN` only.
    pub files: Vec<InlineFile>,
    /// Shell form: to be run by the stage's shell.
    pub prepend_shell: bool,
}

/// A here-document of a `RUN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InlineFile {
    /// The word that ends it.
    pub name: String,
    /// The content as written: it is the shell that expands it.
    pub data: String,
    /// `<<-`: leading tabs are to be removed.
    pub chomp: bool,
}

/// `HEALTHCHECK`'s settings. What is zero was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthConfig {
    /// `NONE`, or `CMD` and the words, or `CMD-SHELL` and the line.
    pub test: Vec<String>,
    /// Time between checks.
    pub interval: Duration,
    /// Time after which a check has failed.
    pub timeout: Duration,
    /// Time in which failures do not count.
    pub start_period: Duration,
    /// Time between checks in that time.
    pub start_interval: Duration,
    /// Failures in a row that make a container unwell.
    pub retries: i32,
}
