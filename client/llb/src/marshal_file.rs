use std::sync::Arc;

use buildkit_solver_pb::{self as pb, caps, file_action::Action};

use crate::file::{Bound, CopyFile, FileAction, Origin, Owner, User};
use crate::marshal::{Context, Draft, add_input, wire_index};
use crate::{Error, Result, path};

/// Permission bits that directories and files are made with.
const MODE_BITS: u32 = 0o777;
/// Mode of a copy that keeps its source's.
const KEEP_MODE: i32 = -1;
/// Time of a file that keeps its source's, or gets the present one.
const KEEP_TIME: i64 = -1;

/// What an action starts from or reads.
#[derive(Clone, Copy)]
enum Tree {
    Empty,
    Input(usize),
    /// The result of an earlier action.
    Result(usize),
}

struct Step<'a> {
    /// The input that names of owners are looked up in.
    base: i64,
    input: Tree,
    secondary: Tree,
    bound: &'a Bound,
    action: &'a FileAction,
}

#[derive(Default)]
struct Steps<'a> {
    inputs: Vec<pb::Input>,
    steps: Vec<Step<'a>>,
    /// Chains that are written, with the index of their last step.
    known: Vec<(*const Bound, usize)>,
}

/// Writes a file op.
pub(crate) fn draft(bound: &Arc<Bound>, context: &Context<'_>) -> Result<Draft> {
    let mut all = Steps::default();
    all.add(bound, context)?;
    let count = all.inputs.len();
    let index = |tree| match tree {
        Tree::Empty => pb::EMPTY_INPUT,
        Tree::Input(index) => wire_index(index),
        Tree::Result(step) => wire_index(count + step),
    };
    let last = all.steps.len() - 1;
    let actions = all
        .steps
        .iter()
        .enumerate()
        .map(|(number, step)| pb::FileAction {
            input: index(step.input),
            secondary_input: index(step.secondary),
            output: if number == last { 0 } else { pb::SKIP_OUTPUT },
            action: Some(action(step)),
        })
        .collect();
    Ok(Draft {
        op: pb::op::Op::File(pb::FileOp { actions }),
        inputs: all.inputs,
        platform: None,
        caps: vec![caps::FILE_BASE],
    })
}

impl<'a> Steps<'a> {
    /// Adds a chain of actions; returns the index of its last step.
    fn add(&mut self, bound: &'a Arc<Bound>, context: &Context<'_>) -> Result<usize> {
        if let Some((_, last)) = self.known.iter().find(|(known, _)| *known == Arc::as_ptr(bound)) {
            return Ok(*last);
        }
        let mut previous = None;
        for action in &bound.actions {
            let base = match &bound.state.output {
                Some(output) => Tree::Input(add_input(&mut self.inputs, context.input(output))),
                None => Tree::Empty,
            };
            let secondary = match action {
                FileAction::Copy(copy) => match &copy.from.0 {
                    Origin::State(state) => match &state.output {
                        Some(output) => Tree::Input(add_input(&mut self.inputs, context.input(output))),
                        None => Tree::Empty,
                    },
                    Origin::Actions(bound) => Tree::Result(self.add(bound, context)?),
                },
                _ => Tree::Empty,
            };
            self.steps.push(Step {
                base: match base {
                    Tree::Input(index) => wire_index(index),
                    _ => pb::EMPTY_INPUT,
                },
                input: previous.map_or(base, Tree::Result),
                secondary,
                bound,
                action,
            });
            previous = Some(self.steps.len() - 1);
        }
        let last = previous.ok_or(Error::IncompleteOp { op: "File", what: "an action" })?;
        self.known.push((Arc::as_ptr(bound), last));
        Ok(last)
    }
}

fn action(step: &Step<'_>) -> Action {
    let parent = step.bound.state.get_dir();
    let mode = |mode: u32| (mode & MODE_BITS).cast_signed();
    let owner = |owner: &Option<Owner>| owner.as_ref().map(|owner| chown(owner, step.base));
    match step.action {
        FileAction::MakeDir(dir) => Action::Mkdir(pb::FileActionMkDir {
            path: path::normalize(parent, &dir.path, false),
            mode: mode(dir.mode),
            make_parents: dir.parents,
            owner: owner(&dir.owner),
            timestamp: dir.timestamp.unwrap_or(KEEP_TIME),
        }),
        FileAction::MakeFile(file) => Action::Mkfile(pb::FileActionMkFile {
            path: path::normalize(parent, &file.path, false),
            mode: mode(file.mode),
            data: file.data.clone(),
            owner: owner(&file.owner),
            timestamp: file.timestamp.unwrap_or(KEEP_TIME),
        }),
        FileAction::MakeSymlink(link) => Action::Symlink(pb::FileActionSymlink {
            oldpath: link.target.clone(),
            newpath: link.path.clone(),
            owner: owner(&link.owner),
            timestamp: link.timestamp.unwrap_or(KEEP_TIME),
        }),
        FileAction::Remove(remove) => Action::Rm(pb::FileActionRm {
            path: path::normalize(parent, &remove.path, false),
            allow_not_found: remove.allow_not_found,
            allow_wildcard: remove.allow_wildcard,
        }),
        FileAction::Copy(copy) => Action::Copy(copy_action(copy, parent, owner(&copy.owner))),
    }
}

fn copy_action(copy: &CopyFile, parent: &str, owner: Option<pb::ChownOpt>) -> pb::FileActionCopy {
    let src = path::clean(&copy.src);
    let src = if src.starts_with('/') {
        src
    } else {
        let dir = match &copy.from.0 {
            Origin::State(state) => state.get_dir(),
            Origin::Actions(bound) => bound.state.get_dir(),
        };
        path::join([dir, &src])
    };
    let mode = match copy.mode {
        _ if !copy.mode_text.is_empty() => 0,
        Some(mode) => mode.cast_signed(),
        None => KEEP_MODE,
    };
    pb::FileActionCopy {
        src,
        dest: path::normalize(parent, &copy.dest, true),
        owner,
        mode,
        follow_symlink: copy.follow_symlinks,
        dir_copy_contents: copy.contents_only,
        attempt_unpack_docker_compatibility: copy.unpack,
        create_dest_path: copy.create_dest,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp: copy.timestamp.unwrap_or(KEEP_TIME),
        include_patterns: copy.include.clone(),
        exclude_patterns: copy.exclude.clone(),
        always_replace_existing_dest_paths: copy.replace_existing,
        mode_str: copy.mode_text.clone(),
        required_paths: copy.required.clone(),
    }
}

fn chown(owner: &Owner, base: i64) -> pb::ChownOpt {
    let user = |user: &Option<User>| {
        user.as_ref().map(|user| pb::UserOpt {
            user: Some(match user {
                User::Id(id) => pb::user_opt::User::ById(*id),
                User::Name(name) => {
                    pb::user_opt::User::ByName(pb::NamedUserOpt { name: name.clone(), input: base })
                }
            }),
        })
    };
    pb::ChownOpt { user: user(&owner.user), group: user(&owner.group) }
}
