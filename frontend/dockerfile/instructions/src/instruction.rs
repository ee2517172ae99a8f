use buildkit_frontend_dockerfile_parser::{Position, Range};

use crate::{Add, CommandLine, Copy, Error, HealthConfig, KeyValue, Run};

/// Where an instruction was written, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The keyword as written, as `RUN` or `run`.
    pub keyword: String,
    /// The instruction as one line, continuations joined, without here-documents and blanks around.
    pub code: String,
    /// Its lines, one range each, here-documents included.
    pub ranges: Vec<Range>,
    /// The comments above it.
    pub comments: Vec<String>,
    /// The first byte of the keyword.
    pub position: Position,
}

/// An instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each struct says what it is")]
pub enum Instruction {
    Add(Add),
    Arg(Arg),
    Cmd(Cmd),
    Copy(Copy),
    Entrypoint(Entrypoint),
    Env(Env),
    Expose(Expose),
    Healthcheck(Healthcheck),
    Label(Label),
    Maintainer(Maintainer),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Shell),
    StopSignal(StopSignal),
    User(User),
    Volume(Volume),
    Workdir(Workdir),
}

/// One stage: `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The `FROM` itself; its keyword, code, lines and comments.
    pub origin: Origin,
    /// The name behind `AS` in lower case, empty without one.
    pub name: String,
    /// The name as written.
    pub name_as_written: Option<String>,
    /// The word between base and name as written: `AS` or `as`.
    pub as_keyword: Option<String>,
    /// The image or stage that it begins with, not expanded.
    pub base_name: String,
    /// `--platform`, not expanded; empty without.
    pub platform: String,
    /// The rest of the comment `# NAME text` right above, of this stage's name.
    pub doc_comment: Option<String>,
    /// The instructions up to the next `FROM`.
    pub instructions: Vec<Instruction>,
}

/// `ARG`: names that a build may give values to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Where it was written.
    pub origin: Origin,
    /// The definitions, in their order.
    pub args: Vec<ArgDefinition>,
}

/// One name of an `ARG`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub key: String,
    /// The default, where there is one.
    pub value: Option<String>,
    /// The rest of the comment `# NAME text` above.
    pub doc_comment: Option<String>,
}

/// `CMD`: what a container runs by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmd {
    /// Where it was written.
    pub origin: Origin,
    /// The command.
    pub command: CommandLine,
}

/// `ENTRYPOINT`: what a container runs in any case. Without words it is cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrypoint {
    /// Where it was written.
    pub origin: Origin,
    /// The command.
    pub command: CommandLine,
}

/// `ENV`: variables of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// Where it was written.
    pub origin: Origin,
    /// The variables, in their order.
    pub env: Vec<KeyValue>,
}

/// `EXPOSE`: ports that a container listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// Where it was written.
    pub origin: Origin,
    /// The words, sorted by their bytes, not expanded.
    pub ports: Vec<String>,
}

/// `HEALTHCHECK`: how to find whether a container is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// Where it was written.
    pub origin: Origin,
    /// The check.
    pub health: HealthConfig,
}

/// `LABEL`: labels of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where it was written.
    pub origin: Origin,
    /// The labels, in their order.
    pub labels: Vec<KeyValue>,
    /// Taken as it is: made from an option of the build, not from the file.
    pub literal: bool,
}

/// `MAINTAINER`, which a label replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// Where it was written.
    pub origin: Origin,
    /// The author.
    pub maintainer: String,
}

/// `ONBUILD`: an instruction for those who build on the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// Where it was written.
    pub origin: Origin,
    /// The trigger as text that is parsed again when it is pulled, with its here-documents.
    pub expression: String,
}

/// `SHELL`: what runs the shell forms that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// Where it was written.
    pub origin: Origin,
    /// Program and arguments; never empty.
    pub shell: Vec<String>,
}

/// `STOPSIGNAL`: what ends a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSignal {
    /// Where it was written.
    pub origin: Origin,
    /// Name or number, not checked.
    pub signal: String,
}

/// `USER`: who runs what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Where it was written.
    pub origin: Origin,
    /// `USER[:GROUP]`, names or numbers.
    pub user: String,
}

/// `VOLUME`: paths whose data outlives a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it was written.
    pub origin: Origin,
    /// The paths; none is empty.
    pub volumes: Vec<String>,
}

/// `WORKDIR`: the directory of what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    /// Where it was written.
    pub origin: Origin,
    /// The path, relative to the one before or absolute.
    pub path: String,
}

impl Instruction {
    /// Where it was written.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Add(it) => &it.origin,
            Self::Arg(it) => &it.origin,
            Self::Cmd(it) => &it.origin,
            Self::Copy(it) => &it.origin,
            Self::Entrypoint(it) => &it.origin,
            Self::Env(it) => &it.origin,
            Self::Expose(it) => &it.origin,
            Self::Healthcheck(it) => &it.origin,
            Self::Label(it) => &it.origin,
            Self::Maintainer(it) => &it.origin,
            Self::Onbuild(it) => &it.origin,
            Self::Run(it) => &it.origin,
            Self::Shell(it) => &it.origin,
            Self::StopSignal(it) => &it.origin,
            Self::User(it) => &it.origin,
            Self::Volume(it) => &it.origin,
            Self::Workdir(it) => &it.origin,
        }
    }
}

impl ArgDefinition {
    /// The default, or nothing.
    pub fn value_or_empty(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }
}

impl Label {
    /// A label that an option of the build gives: it is taken as it is.
    pub fn literal(key: &str, value: &str) -> Self {
        let label = KeyValue { key: key.to_owned(), value: value.to_owned(), legacy: false };
        let origin =
            Origin { keyword: "label".to_owned(), code: format!("LABEL {label}"), ..Origin::default() };
        Self { origin, labels: vec![label], literal: true }
    }
}

impl StopSignal {
    /// Whether the instruction exists on an operating system.
    ///
    /// # Errors
    /// On `windows` it does not.
    pub fn check_os(&self, os: &str) -> Result<(), Error> {
        if os == "windows" { Err(Error::StopSignalOnWindows) } else { Ok(()) }
    }
}
