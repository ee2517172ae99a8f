use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::constraints::{Constrained, Constraints};
use crate::graph::{Kind, Node, Output};
use crate::state::State;

/// Who owns a file: by number, or by name as the changed tree's own `passwd` and `group` files know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A number.
    Id(u32),
    /// A name.
    Name(String),
}

/// User and group of files that are made; what is `None` is root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<User>,
    /// The group.
    pub group: Option<User>,
}

impl Owner {
    /// From `user[:group]`, each a number or a name.
    pub fn parse(text: &str) -> Self {
        let user = |text: &str| match text.parse::<i32>() {
            Ok(id) => User::Id(id.cast_unsigned()),
            Err(_) if text.is_empty() || text == "root" => User::Id(0),
            Err(_) => User::Name(text.to_owned()),
        };
        match text.split_once(':') {
            Some((name, group)) => Self { user: Some(user(name)), group: Some(user(group)) },
            None => Self { user: Some(user(text)), group: None },
        }
    }

    /// By numbers.
    pub fn ids(uid: u32, gid: u32) -> Self {
        Self { user: Some(User::Id(uid)), group: Some(User::Id(gid)) }
    }
}

impl From<&str> for Owner {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

/// Nanoseconds since 1970.
fn timestamp(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// Methods of actions that make files.
macro_rules! made_file_options {
    () => {
        /// Who owns what is made; root by default.
        #[must_use]
        pub fn owner(mut self, owner: impl Into<Owner>) -> Self {
            self.owner = Some(owner.into());
            self
        }

        /// The time that what is made carries; by default when it was made, or its source's.
        #[must_use]
        pub fn created(mut self, time: SystemTime) -> Self {
            self.timestamp = Some(timestamp(time));
            self
        }
    };
}

/// Makes a directory; see [`mkdir`].
#[derive(Clone, Debug)]
pub struct MakeDir {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) parents: bool,
    pub(crate) owner: Option<Owner>,
    pub(crate) timestamp: Option<i64>,
}

/// Makes a directory with these permission bits.
pub fn mkdir(path: &str, mode: u32) -> MakeDir {
    MakeDir { path: path.to_owned(), mode, parents: false, owner: None, timestamp: None }
}

impl MakeDir {
    /// Makes missing parents too, and accepts that the directory exists.
    #[must_use]
    pub fn parents(mut self) -> Self {
        self.parents = true;
        self
    }

    made_file_options!();
}

/// Makes a file; see [`mkfile`].
#[derive(Clone, Debug)]
pub struct MakeFile {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) data: Bytes,
    pub(crate) owner: Option<Owner>,
    pub(crate) timestamp: Option<i64>,
}

/// Makes a file with these permission bits and this content.
pub fn mkfile(path: &str, mode: u32, data: impl Into<Bytes>) -> MakeFile {
    MakeFile { path: path.to_owned(), mode, data: data.into(), owner: None, timestamp: None }
}

impl MakeFile {
    made_file_options!();
}

/// Makes a symbolic link; see [`symlink`].
#[derive(Clone, Debug)]
pub struct MakeSymlink {
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) owner: Option<Owner>,
    pub(crate) timestamp: Option<i64>,
}

/// Makes a symbolic link at `path` that leads to `target`. Both are written as they are.
pub fn symlink(target: &str, path: &str) -> MakeSymlink {
    MakeSymlink { target: target.to_owned(), path: path.to_owned(), owner: None, timestamp: None }
}

impl MakeSymlink {
    made_file_options!();
}

/// Removes files; see [`rm`].
#[derive(Clone, Debug)]
pub struct Remove {
    pub(crate) path: String,
    pub(crate) allow_not_found: bool,
    pub(crate) allow_wildcard: bool,
}

/// Removes a file or a directory with all that it holds.
pub fn rm(path: &str) -> Remove {
    Remove { path: path.to_owned(), allow_not_found: false, allow_wildcard: false }
}

impl Remove {
    /// It is no error when there is nothing.
    #[must_use]
    pub fn allow_not_found(mut self) -> Self {
        self.allow_not_found = true;
        self
    }

    /// `*`, `?` and `[…]` match names.
    #[must_use]
    pub fn allow_wildcard(mut self) -> Self {
        self.allow_wildcard = true;
        self
    }
}

/// Where a copy reads: a state, or [actions](FileActions::on) on a state within the same op.
#[derive(Clone, Debug)]
pub struct CopySource(pub(crate) Origin);

#[derive(Clone, Debug)]
pub(crate) enum Origin {
    State(State),
    Actions(Arc<Bound>),
}

impl From<&State> for CopySource {
    fn from(state: &State) -> Self {
        Self(Origin::State(state.clone()))
    }
}

impl From<State> for CopySource {
    fn from(state: State) -> Self {
        Self(Origin::State(state))
    }
}

impl From<&CopySource> for CopySource {
    fn from(source: &CopySource) -> Self {
        source.clone()
    }
}

/// Copies files; see [`copy`].
#[derive(Clone, Debug)]
pub struct CopyFile {
    pub(crate) from: CopySource,
    pub(crate) src: String,
    pub(crate) dest: String,
    pub(crate) mode: Option<u32>,
    pub(crate) mode_text: String,
    pub(crate) follow_symlinks: bool,
    pub(crate) contents_only: bool,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) required: Vec<String>,
    pub(crate) unpack: bool,
    pub(crate) create_dest: bool,
    pub(crate) allow_wildcard: bool,
    pub(crate) allow_empty_wildcard: bool,
    pub(crate) replace_existing: bool,
    pub(crate) owner: Option<Owner>,
    pub(crate) timestamp: Option<i64>,
}

/// Copies `src` of a tree to `dest` of the changed one. A relative `src` counts from the source
/// state's directory, a relative `dest` from the changed state's.
pub fn copy(from: impl Into<CopySource>, src: &str, dest: &str) -> CopyFile {
    CopyFile {
        from: from.into(),
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: None,
        mode_text: String::new(),
        follow_symlinks: false,
        contents_only: false,
        include: Vec::new(),
        exclude: Vec::new(),
        required: Vec::new(),
        unpack: false,
        create_dest: false,
        allow_wildcard: false,
        allow_empty_wildcard: false,
        replace_existing: false,
        owner: None,
        timestamp: None,
    }
}

impl CopyFile {
    /// Permission bits of the copies; without it those of the sources.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// A change of the sources' permission bits in the words of chmod(1), such as `u+x`.
    #[must_use]
    pub fn mode_text(mut self, mode: &str) -> Self {
        mode.clone_into(&mut self.mode_text);
        self
    }

    /// Copies what a symbolic link at `src` leads to.
    #[must_use]
    pub fn follow_symlinks(mut self) -> Self {
        self.follow_symlinks = true;
        self
    }

    /// Copies what is in the directory `src` and not the directory.
    #[must_use]
    pub fn contents_only(mut self) -> Self {
        self.contents_only = true;
        self
    }

    /// Copies only paths that match one of the patterns.
    #[must_use]
    pub fn include<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.include.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Copies no path that matches one of the patterns.
    #[must_use]
    pub fn exclude<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.exclude.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Paths that must exist even when patterns would allow that they do not.
    #[must_use]
    pub fn required<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.required.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Unpacks `src` when it is an archive.
    #[must_use]
    pub fn unpack(mut self) -> Self {
        self.unpack = true;
        self
    }

    /// Makes the directory of `dest` when it is missing.
    #[must_use]
    pub fn create_dest(mut self) -> Self {
        self.create_dest = true;
        self
    }

    /// `*`, `?` and `[…]` match names.
    #[must_use]
    pub fn allow_wildcard(mut self) -> Self {
        self.allow_wildcard = true;
        self
    }

    /// It is no error when nothing matches.
    #[must_use]
    pub fn allow_empty_wildcard(mut self) -> Self {
        self.allow_empty_wildcard = true;
        self
    }

    /// Removes what is at a destination and is not of the same kind.
    #[must_use]
    pub fn replace_existing(mut self) -> Self {
        self.replace_existing = true;
        self
    }

    made_file_options!();
}

/// One change of a tree.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are documented as types")]
pub enum FileAction {
    MakeDir(MakeDir),
    MakeFile(MakeFile),
    MakeSymlink(MakeSymlink),
    Remove(Remove),
    Copy(Box<CopyFile>),
}

impl From<MakeDir> for FileAction {
    fn from(action: MakeDir) -> Self {
        Self::MakeDir(action)
    }
}

impl From<MakeFile> for FileAction {
    fn from(action: MakeFile) -> Self {
        Self::MakeFile(action)
    }
}

impl From<MakeSymlink> for FileAction {
    fn from(action: MakeSymlink) -> Self {
        Self::MakeSymlink(action)
    }
}

impl From<Remove> for FileAction {
    fn from(action: Remove) -> Self {
        Self::Remove(action)
    }
}

impl From<CopyFile> for FileAction {
    fn from(action: CopyFile) -> Self {
        Self::Copy(Box::new(action))
    }
}

/// Changes of a tree, one after the other, in one op.
#[derive(Clone, Debug, Default)]
pub struct FileActions {
    actions: Vec<FileAction>,
    constraints: Constraints,
}

impl Constrained for FileActions {
    fn constraints_mut(&mut self) -> &mut Constraints {
        &mut self.constraints
    }
}

impl<A: Into<FileAction>> From<A> for FileActions {
    fn from(action: A) -> Self {
        Self::new().then(action)
    }
}

impl FileActions {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change.
    #[must_use]
    pub fn then(mut self, action: impl Into<FileAction>) -> Self {
        self.actions.push(action.into());
        self
    }

    /// The changes made to a state, for a copy to read from within the same op.
    pub fn on(self, state: &State) -> CopySource {
        CopySource(Origin::Actions(Arc::new(Bound { state: state.clone(), actions: self.actions })))
    }

    pub(crate) fn into_op(self, state: &State) -> Output {
        let bound = Arc::new(Bound { state: state.clone(), actions: self.actions });
        let mut inputs = Vec::new();
        bound.collect_inputs(&mut inputs);
        Output::first(Node::new(Kind::File(bound), inputs, self.constraints))
    }
}

/// Actions and the state that they start from.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) state: State,
    pub(crate) actions: Vec<FileAction>,
}

impl Bound {
    /// Everything that is read, the last action's sources first: the order in which the original
    /// builder lists the ops of a definition.
    fn collect_inputs(&self, inputs: &mut Vec<Output>) {
        for action in self.actions.iter().rev() {
            if let Some(output) = &self.state.output {
                Node::add_input(inputs, output);
            }
            if let FileAction::Copy(copy) = action {
                match &copy.from.0 {
                    Origin::State(state) => {
                        if let Some(output) = &state.output {
                            Node::add_input(inputs, output);
                        }
                    }
                    Origin::Actions(bound) => bound.collect_inputs(inputs),
                }
            }
        }
    }

    /// Moves everything that is read out of a chain that nobody else has.
    pub(crate) fn take_outputs(bound: Arc<Self>, outputs: &mut Vec<Output>) {
        let mut unused = vec![bound];
        while let Some(bound) = unused.pop() {
            let Some(bound) = Arc::into_inner(bound) else { continue };
            outputs.extend(bound.state.output);
            for action in bound.actions {
                if let FileAction::Copy(copy) = action {
                    match copy.from.0 {
                        Origin::State(state) => outputs.extend(state.output),
                        Origin::Actions(bound) => unused.push(bound),
                    }
                }
            }
        }
    }
}
