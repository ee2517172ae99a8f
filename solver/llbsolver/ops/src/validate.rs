//! From the wire form of an op to its typed one. Whatever an op relies on later is checked here.

use buildkit_solver_pb as pb;
use buildkit_util_system::path;
use pb::file_action::Action;
use pb::user_opt::User;

use crate::spec::{
    BuildSpec, DiffSpec, ExecSpec, FileActionSpec, FileInput, FileSpec, MountSpec, OpSpec, PassthroughSpec,
    SourceSpec,
};
use crate::{Error, Result};

const EMPTY: i64 = -1;

fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Invalid(message.into()))
}

/// An index from the wire that must be below `count`.
fn index(value: i64, count: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|value| *value < count)
}

/// Every edge of the list must be used: a payload that knows fewer inputs than the list has was not
/// made for it.
fn all_used(kind: &str, used: &[bool]) -> Result<()> {
    match used.iter().position(|used| !used) {
        Some(at) => invalid(format!("invalid {kind} op: input {at} of {} is not used", used.len())),
        None => Ok(()),
    }
}

pub(crate) fn validate(op: pb::op::Op, inputs: usize) -> Result<OpSpec> {
    use pb::op::Op;
    Ok(match op {
        Op::Source(op) => OpSpec::Source(source(op, inputs)?),
        Op::Exec(op) => OpSpec::Exec(Box::new(exec(op, inputs)?)),
        Op::File(op) => OpSpec::File(file(op, inputs)?),
        Op::Build(op) => OpSpec::Build(build(op, inputs)?),
        Op::Merge(op) => OpSpec::Merge(merge(op, inputs)?),
        Op::Diff(op) => OpSpec::Diff(diff(op, inputs)?),
        Op::Passthrough(op) => OpSpec::Passthrough(passthrough(op, inputs)?),
    })
}

fn source(op: pb::SourceOp, inputs: usize) -> Result<SourceSpec> {
    if inputs != 0 {
        return invalid(format!("invalid source op with {inputs} inputs"));
    }
    let Some((scheme, reference)) = op.identifier.split_once("://") else {
        return invalid(format!("failed to parse {}: invalid", op.identifier));
    };
    Ok(SourceSpec { scheme: scheme.to_owned(), reference: reference.to_owned(), op })
}

fn exec(mut op: pb::ExecOp, inputs: usize) -> Result<ExecSpec> {
    let Some(meta) = &op.meta else {
        return invalid("invalid exec op with no meta");
    };
    if meta.args.is_empty() {
        return invalid("invalid exec op with no args");
    }
    if op.mounts.is_empty() {
        return invalid("invalid exec op with no mounts");
    }
    let roots = op.mounts.iter().filter(|mount| mount.dest == pb::ROOT_MOUNT).count();
    match roots {
        0 => return invalid("invalid exec op with no rootfs"),
        1 => {}
        _ => return invalid(format!("invalid exec op with {roots} mounts at {}", pb::ROOT_MOUNT)),
    }
    if pb::NetMode::try_from(op.network).is_err() {
        return invalid(format!("invalid network mode {}", op.network));
    }
    if pb::SecurityMode::try_from(op.security).is_err() {
        return invalid(format!("invalid security mode {}", op.security));
    }
    if !meta.cwd.starts_with('/') {
        // No runtime starts a process there; said here, before anything is transferred for it.
        return invalid(format!(
            "invalid exec op with working directory {:?}, which is not absolute",
            meta.cwd
        ));
    }
    for text in meta.args.iter().chain(&meta.env).chain([&meta.cwd, &meta.user, &meta.hostname]) {
        if text.contains('\0') {
            return invalid("invalid exec op with a NUL byte in its process");
        }
    }

    // Devices are given to containers by no worker: what has to have one must not run without.
    if let Some(device) = op.cdi_devices.iter().find(|device| !device.optional) {
        let name: String = device.name.chars().take(128).collect();
        return invalid(format!(
            "required device {name:?} is not registered (exec.meta.cdi is not supported)"
        ));
    }
    // Those that are missing are no part of the key.
    op.cdi_devices.clear();

    let mut used = vec![false; inputs];
    let declared = op.mounts.iter().filter(|mount| declares_output(mount)).count();
    let mut outputs: u32 = 0;
    let mut mounts = Vec::with_capacity(op.mounts.len());
    for mount in &op.mounts {
        let spec = exec_mount(mount, inputs, declared, outputs)?;
        if let Some(input) = spec.input {
            used[input] = true;
        }
        if spec.output.is_some() {
            outputs += 1;
        }
        mounts.push(spec);
    }
    all_used("exec", &used)?;
    Ok(ExecSpec { op, mounts, outputs })
}

/// Whether a mount can become a result and says so; clients leave the field at 0 for the other kinds.
fn declares_output(mount: &pb::Mount) -> bool {
    let kind = pb::MountType::try_from(mount.mount_type);
    matches!(kind, Ok(pb::MountType::Bind | pb::MountType::Cache)) && mount.output != pb::SKIP_OUTPUT
}

/// `declared` mounts have outputs; the next one becomes result `next_output`.
fn exec_mount(mount: &pb::Mount, inputs: usize, declared: usize, next_output: u32) -> Result<MountSpec> {
    let dest = &mount.dest;
    let Ok(kind) = pb::MountType::try_from(mount.mount_type) else {
        return invalid(format!("invalid mount type {} for {dest}", mount.mount_type));
    };
    if dest.contains('\0') || mount.selector.contains('\0') {
        return invalid("invalid exec op with a NUL byte in a mount");
    }
    if dest == pb::ROOT_MOUNT && kind != pb::MountType::Bind {
        return invalid(format!("invalid mount type {} for {dest}", kind.as_str_name()));
    }
    let Ok(content) = pb::MountContentCache::try_from(mount.content_cache) else {
        return invalid(format!("invalid mount cache content {} for {dest}", mount.content_cache));
    };
    let sharing = match &mount.cache_opt {
        Some(cache) => pb::CacheSharingOpt::try_from(cache.sharing)
            .map_err(|_| Error::Invalid(format!("invalid cache sharing {} for {dest}", cache.sharing)))?,
        None => pb::CacheSharingOpt::Shared,
    };
    if kind == pb::MountType::Cache && mount.cache_opt.is_none() {
        return invalid(format!("missing cache mount options for {dest}"));
    }
    if kind == pb::MountType::Secret && mount.secret_opt.is_none() {
        return invalid(format!("invalid secret mount options for {dest}"));
    }
    if kind == pb::MountType::Ssh && mount.ssh_opt.is_none() {
        return invalid(format!("invalid ssh mount options for {dest}"));
    }
    if mount.tmpfs_opt.as_ref().is_some_and(|tmpfs| tmpfs.size < 0) {
        return invalid(format!("invalid tmpfs size for {dest}"));
    }
    let input = match mount.input {
        EMPTY => None,
        value => match index(value, inputs) {
            Some(input) => Some(input),
            None if value < 0 => {
                return invalid(format!("invalid mountinput {value} of mount {dest}"));
            }
            None => return invalid(format!("missing input {value}")),
        },
    };
    let output = if declares_output(mount) {
        if index(mount.output, declared).is_none() {
            return invalid(format!("invalid output {} of mount {dest}, {declared} provided", mount.output));
        }
        // Results are in the order of the mounts, whatever their numbers say: that is what keys of caches
        // and graphs of other clients mean. A cache mount hands on its input, so without one it is none.
        (kind == pb::MountType::Bind || input.is_some()).then_some(next_output)
    } else {
        None
    };
    let tree = matches!(kind, pb::MountType::Bind | pb::MountType::Cache);
    if dest == pb::ROOT_MOUNT && input.is_none() && output.is_none() {
        return invalid(format!("mount {dest} has no input"));
    }
    // What is shown can only decide alone when nothing that is not shown gets into a result.
    let whole = path::join(["/", &mount.selector]) == pb::ROOT_MOUNT;
    let safe = mount.output == pb::SKIP_OUTPUT || mount.readonly || whole;
    let by_content = match content {
        _ if !tree || input.is_none() => false,
        pb::MountContentCache::Off => false,
        pb::MountContentCache::On if !safe => {
            return invalid(format!("invalid mount cache content {dest}"));
        }
        pb::MountContentCache::On => true,
        pb::MountContentCache::Default => safe && dest != pb::ROOT_MOUNT,
    };
    Ok(MountSpec { kind, sharing, input, output, by_content })
}

fn file(op: pb::FileOp, inputs: usize) -> Result<FileSpec> {
    if op.actions.is_empty() {
        return invalid("invalid file op with no actions");
    }
    let count = op.actions.len();
    let mut used = vec![false; inputs];
    let mut outputs: Vec<Option<usize>> = Vec::new();
    let mut actions = Vec::with_capacity(count);
    for (at, action) in op.actions.into_iter().enumerate() {
        let mut slot = |value: i64, what: &str| {
            if value == EMPTY {
                return Ok(FileInput::Scratch);
            }
            match index(value, inputs + count) {
                Some(value) if value < inputs => {
                    used[value] = true;
                    Ok(FileInput::Input(value))
                }
                Some(value) => Ok(FileInput::Action(value - inputs)),
                None => invalid(format!("invalid {what} index {value}, {} provided", inputs + count)),
            }
        };
        let input = slot(action.input, "input")?;
        let secondary = slot(action.secondary_input, "secondary input")?;
        let indexes = [action.input, action.secondary_input, action.output];
        let Some(kind) = action.action else {
            return invalid(format!("invalid file action {at} with no action"));
        };
        check_action(&kind, inputs, &mut used)?;
        if action.output != pb::SKIP_OUTPUT {
            // There cannot be more outputs than actions.
            let Some(output) = index(action.output, count) else {
                return invalid(format!("invalid output index {}, {count} actions", action.output));
            };
            if outputs.len() <= output {
                outputs.resize(output + 1, None);
            }
            if outputs[output].replace(at).is_some() {
                return invalid(format!("duplicate output {output}"));
            }
        }
        actions.push(FileActionSpec { input, secondary, indexes, action: kind });
    }
    if outputs.is_empty() {
        return invalid("no outputs specified");
    }
    let outputs = outputs
        .into_iter()
        .enumerate()
        .map(|(at, action)| action.ok_or_else(|| Error::Invalid(format!("missing output index {at}"))))
        .collect::<Result<Vec<_>>>()?;
    all_used("file", &used)?;
    let order = order(&actions, inputs)?;
    Ok(FileSpec { actions, order, outputs })
}

/// Sorts actions so that each stands after those it needs.
fn order(actions: &[FileActionSpec], inputs: usize) -> Result<Vec<usize>> {
    let needs = |at: usize| {
        [actions[at].input, actions[at].secondary].into_iter().filter_map(|slot| match slot {
            FileInput::Action(action) => Some(action),
            _ => None,
        })
    };
    let mut missing: Vec<usize> = (0..actions.len()).map(|at| needs(at).count()).collect();
    let mut consumers = vec![Vec::new(); actions.len()];
    for at in 0..actions.len() {
        for need in needs(at) {
            consumers[need].push(at);
        }
    }
    let mut order: Vec<usize> = (0..actions.len()).filter(|at| missing[*at] == 0).collect();
    let mut next = 0;
    while let Some(&at) = order.get(next) {
        next += 1;
        for &consumer in &consumers[at] {
            missing[consumer] -= 1;
            if missing[consumer] == 0 {
                order.push(consumer);
            }
        }
    }
    match missing.iter().position(|missing| *missing != 0) {
        Some(at) => invalid(format!("loop from index {}", inputs + at)),
        None => Ok(order),
    }
}

fn check_action(action: &Action, inputs: usize, used: &mut [bool]) -> Result<()> {
    let (owner, paths): (_, Vec<&str>) = match action {
        Action::Mkdir(mkdir) => (mkdir.owner.as_ref(), vec![&mkdir.path]),
        Action::Mkfile(mkfile) => (mkfile.owner.as_ref(), vec![&mkfile.path]),
        Action::Symlink(link) => (link.owner.as_ref(), vec![&link.oldpath, &link.newpath]),
        Action::Rm(rm) => (None, vec![&rm.path]),
        Action::Copy(copy) => {
            let patterns = copy
                .include_patterns
                .iter()
                .chain(&copy.exclude_patterns)
                .chain(&copy.required_paths)
                .map(String::as_str);
            (copy.owner.as_ref(), [copy.src.as_str(), &copy.dest].into_iter().chain(patterns).collect())
        }
    };
    if paths.iter().any(|path| path.contains('\0')) {
        return invalid("invalid file action with a NUL byte in a path");
    }
    let Some(owner) = owner else { return Ok(()) };
    for named in [&owner.user, &owner.group].into_iter().flatten() {
        if let Some(User::ByName(named)) = &named.user {
            if named.input < 0 {
                return invalid(format!("invalid user index: {}", named.input));
            }
            let Some(input) = index(named.input, inputs) else {
                return invalid(format!(
                    "invalid input index {} in file op with {inputs} inputs",
                    named.input
                ));
            };
            used[input] = true;
        }
    }
    Ok(())
}

fn build(op: pb::BuildOp, inputs: usize) -> Result<BuildSpec> {
    if op.builder != pb::LLB_BUILDER {
        return invalid("only LLB builder is currently allowed");
    }
    let mut used = vec![false; inputs];
    let mut definition = None;
    for (key, value) in pb::map::to_map(op.inputs.iter().cloned()) {
        let Some(input) = index(value.input, inputs) else {
            return invalid(format!("invalid index {}", value.input));
        };
        used[input] = true;
        if key == pb::LLB_DEFINITION_INPUT {
            definition = Some(input);
        }
    }
    let Some(definition) = definition else {
        return invalid(format!("no llb definition input {} found", pb::LLB_DEFINITION_INPUT));
    };
    all_used("build", &used)?;
    let filename = pb::map::get(&op.attrs, "llbbuild.filename")
        .unwrap_or_else(|| pb::LLB_DEFAULT_DEFINITION_FILE.to_owned());
    if filename.contains('\0') {
        return invalid("invalid build op with a NUL byte in its file name");
    }
    Ok(BuildSpec { op, definition, filename })
}

fn merge(op: pb::MergeOp, inputs: usize) -> Result<pb::MergeOp> {
    if op.inputs.len() != inputs {
        return invalid(format!("invalid merge op: it lists {} inputs and has {inputs}", op.inputs.len()));
    }
    if inputs == 0 {
        return invalid("invalid merge op with no inputs");
    }
    for (at, input) in op.inputs.iter().enumerate() {
        // The order of the list is the order of the layers.
        if index(input.input, inputs) != Some(at) {
            return invalid(format!("invalid merge input index {} at {at}", input.input));
        }
    }
    Ok(op)
}

fn diff(op: pb::DiffOp, inputs: usize) -> Result<DiffSpec> {
    let (Some(lower), Some(upper)) = (&op.lower, &op.upper) else {
        return invalid("invalid diff op with nil lower or upper input");
    };
    // Inputs are consumed in this order, so their numbers can only be these.
    let mut next = 0;
    let mut side = |value: i64| {
        if value == EMPTY {
            return Ok(None);
        }
        if index(value, inputs) != Some(next) {
            return invalid(format!("invalid diff input index {value}"));
        }
        next += 1;
        Ok(Some(next - 1))
    };
    let (lower, upper) = (side(lower.input)?, side(upper.input)?);
    if next != inputs {
        return invalid(format!("invalid diff op: it uses {next} inputs and has {inputs}"));
    }
    Ok(DiffSpec { op, lower, upper })
}

fn passthrough(op: pb::PassthroughOp, inputs: usize) -> Result<PassthroughSpec> {
    if op.id.is_empty() {
        return invalid("invalid passthrough op with no id");
    }
    if op.outputs.is_empty() {
        return invalid("invalid passthrough op with no outputs");
    }
    // Inputs that are no output are allowed: they are only waited for.
    let outputs = op
        .outputs
        .iter()
        .map(|&value| {
            index(value, inputs)
                .ok_or_else(|| Error::Invalid(format!("invalid passthrough output input index {value}")))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(PassthroughSpec { op, outputs })
}
