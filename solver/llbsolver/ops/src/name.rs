use buildkit_solver_pb::file_action::Action;

use crate::spec::{FileActionSpec, OpSpec};

/// Names that are made of other names stop growing here: a chain of merges would double them at
/// each step.
const MAX_COMPOSED: usize = 1024;

/// What people read of a step that has no name of its own. `inputs` are the names of its inputs.
pub(crate) fn op_name(op: &OpSpec, inputs: &[&str]) -> String {
    let input = |at: Option<usize>| match at.and_then(|at| inputs.get(at)) {
        Some(name) => format!("({name})"),
        None => "scratch".to_owned(),
    };
    match op {
        OpSpec::Source(spec) => spec.op.identifier.clone(),
        OpSpec::Exec(spec) => spec.meta().args.join(" "),
        OpSpec::File(spec) => file_name(&spec.actions),
        OpSpec::Build(_) => "build".to_owned(),
        OpSpec::Merge(_) => shortened(format!("merge ({})", inputs.join(", "))),
        OpSpec::Diff(spec) => shortened(format!("diff {} -> {}", input(spec.lower), input(spec.upper))),
        OpSpec::Passthrough(spec) => format!("passthrough {}", spec.op.id),
    }
}

fn file_name(actions: &[FileActionSpec]) -> String {
    let names: Vec<String> = actions
        .iter()
        .map(|action| match &action.action {
            Action::Mkdir(mkdir) => format!("mkdir {}", mkdir.path),
            Action::Mkfile(mkfile) => format!("mkfile {}", mkfile.path),
            Action::Symlink(link) => format!("symlink {} -> {}", link.newpath, link.oldpath),
            Action::Rm(rm) => format!("rm {}", rm.path),
            Action::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
        })
        .collect();
    names.join(", ")
}

fn shortened(mut name: String) -> String {
    if name.len() > MAX_COMPOSED {
        name.truncate(name.floor_char_boundary(MAX_COMPOSED - 3));
        name.push_str("...");
    }
    name
}
