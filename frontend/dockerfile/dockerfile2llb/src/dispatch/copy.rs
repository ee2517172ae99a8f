use buildkit_client_llb::{
    Constrained as _, Constraints, CopyFile, FileActions, State, copy as copy_action, merge, mkfile, scratch,
};
use buildkit_client_llb_sourceresolver::platform_to;
use buildkit_frontend_dockerfile_dfgitutil::GitRef;
use buildkit_frontend_dockerfile_instructions::{Add, Copy, Origin, SourcesAndDest};
use buildkit_frontend_dockerfile_linter::checks;
use buildkit_solver_pb::caps;
use buildkit_util_gopath::join;
use buildkit_util_gotext::quoted;
use buildkit_util_patternmatcher::has_wildcards;

use super::source;
use crate::convert::Converter;
use crate::stage::StageId;
use crate::{Error, Result, name, paths};

/// What `ADD` and `COPY` have in common.
struct Copying<'a> {
    origin: &'a Origin,
    paths: &'a SourcesAndDest,
    chown: &'a str,
    chmod: &'a str,
    exclude: &'a [String],
    link: bool,
    parents: bool,
    /// What `ADD` has more.
    add: Option<&'a Add>,
    /// The tree that paths are of.
    tree: State,
    /// The tree is the build context.
    is_context: bool,
}

/// `--chmod`.
enum Mode {
    Keep,
    Bits(u32),
    Words(String),
}

impl Converter<'_> {
    pub(super) fn add(&mut self, id: StageId, it: &Add) -> Result<()> {
        self.copy_files(
            id,
            &Copying {
                origin: &it.origin,
                paths: &it.paths,
                chown: &it.chown,
                chmod: &it.chmod,
                exclude: &it.exclude_patterns,
                link: it.link,
                parents: false,
                add: Some(it),
                tree: self.context.state(),
                is_context: true,
            },
        )?;
        let is_url = |path: &str| path.starts_with("http://") || path.starts_with("https://");
        let paths = it.paths.source_paths.iter().filter(|path| !is_url(path)).map(|path| join(["/", path]));
        self.stages[id].context_paths.extend(paths);
        Ok(())
    }

    pub(super) fn copy(&mut self, id: StageId, it: &Copy, source: Option<StageId>) -> Result<()> {
        let tree = match source {
            Some(source) if !self.stages[source].is_dispatched => {
                return Err(Error::invalid(format!(
                    "cannot copy from stage {}, it needs to be defined before current stage {}",
                    quoted(&it.from),
                    quoted(&self.stages[id].name)
                ))
                .hint("move that stage above this one"));
            }
            Some(source) => self.stages[source].state.clone(),
            None => self.context.state(),
        };
        self.copy_files(
            id,
            &Copying {
                origin: &it.origin,
                paths: &it.paths,
                chown: &it.chown,
                chmod: &it.chmod,
                exclude: &it.exclude_patterns,
                link: it.link,
                parents: it.parents,
                add: None,
                tree,
                is_context: source.is_none(),
            },
        )?;
        for path in &it.paths.source_paths {
            let path = join(["/", path]);
            match source {
                Some(source) => self.stages.mark_used(source, path),
                None => {
                    self.stages[id].context_paths.insert(path);
                }
            }
        }
        Ok(())
    }

    fn copy_files(&mut self, id: StageId, it: &Copying<'_>) -> Result<()> {
        let os = self.stages[id].os().to_owned();
        let dest = absolute_dest(&self.stages[id].state, &it.paths.dest_path, &os)?;
        let mode = Mode::parse(it.chmod)?;
        if let Some(add) = it.add {
            check_checksum(add)?;
        }
        let text =
            name::expanded(&self.lex, &it.origin.code, &crate::env::StateEnv(self.stages[id].state.clone()));
        let title = self.named_step(id, &text);

        let mut git = source::GitAdd::new(
            it.add.and_then(|add| add.keep_git_dir),
            it.add.map_or_else(String::new, |add| add.checksum.clone()),
        );
        let mut actions = FileActions::new();
        for path in &it.paths.source_paths {
            let repository = GitRef::parse(path).transpose()?.filter(|repository| !repository.looks_local);
            let action = match repository {
                Some(_) if it.add.is_none() => {
                    return Err(Error::invalid("source can't be a git ref for COPY").hint("write ADD"));
                }
                Some(reference) => git.copy(&reference, &title, &dest)?,
                None if is_http_source(path) => {
                    let Some(add) = it.add else {
                        return Err(Error::invalid("source can't be a URL for COPY").hint("write ADD"));
                    };
                    source::http_copy(add, path, git.checksum(), &title, &dest)?
                }
                None => {
                    self.warn_if_ignored(it, path);
                    local_copy(it, path, &dest, &os)?
                }
            };
            actions = actions.then(options(action, it, &mode));
        }
        for document in &it.paths.source_contents {
            let file = paths::without_drive(&document.path, &os, false)
                .map_err(|error| error.context("removing drive letter"))?;
            let mut op = FileActions::new()
                .then(mkfile(&file, 0o644, document.data.clone()))
                .custom_name("[internal] preparing inline document");
            if let Some(platform) = &self.stages[id].platform {
                op = op.platform(platform_to(platform));
            }
            let tree = scratch().file(op);
            let action = copy_action(&tree, &paths::to_slash(&file, &os), &dest).create_dest();
            actions = actions.then(options(action, it, &mode));
        }

        let ignores_cache = self.stages[id].ignores_cache;
        let constraints = |name: &str| {
            let constraints = Constraints::new()
                .custom_name(name)
                .location(&self.options.source_map, name::llb_ranges(&it.origin.ranges));
            if ignores_cache { constraints.ignore_cache() } else { constraints }
        };
        let before = self.stages[id].state.clone();
        let state = if it.link && it.chmod.is_empty() && self.supports(caps::MERGE_OP) {
            let group = buildkit_identity::new_id();
            let mut own = constraints(&title).progress_group(&group, &title, true);
            if let Some(platform) = &self.stages[id].platform {
                own = own.platform(platform_to(platform));
            }
            let copied = scratch().file(actions.with_constraints(own));
            self.stages[id].step -= usize::from(self.stages[id].steps > 0);
            let link = self.named_step(id, &format!("LINK {text}"));
            let constraints = constraints(&link).progress_group(&group, &title, false);
            before.with_tree(&merge([&before, &copied], constraints))
        } else {
            before.file(actions.with_constraints(constraints(&title)))
        };
        self.stages[id].state = state;
        self.note_layer(id, format!("{} # buildkit", it.history()))
    }

    /// A path that the context's ignore file hides is most likely a mistake.
    fn warn_if_ignored(&self, it: &Copying<'_>, path: &str) {
        if let Some(ignored) = self.ignored.as_ref().filter(|_| it.is_context) {
            self.report(checks::copy_ignored_file(ignored, it.add.is_some(), path), it.origin);
        }
    }
}

impl Copying<'_> {
    /// The instruction as histories have it.
    fn history(&self) -> String {
        let mut text = if self.add.is_some() { "ADD" } else { "COPY" }.to_owned();
        if self.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", self.chown), ("chmod", self.chmod)] {
            if !value.is_empty() {
                text.push_str(&format!(" --{flag}={value}"));
            }
        }
        for path in &self.paths.source_paths {
            text.push_str(&format!(" {path}"));
        }
        for document in &self.paths.source_contents {
            text.push_str(&format!(" <<{}", document.path));
        }
        format!("{text} {}", self.paths.dest_path)
    }
}

impl Mode {
    fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Keep);
        }
        let not_octal = || {
            Error::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
            .hint("write --chmod=0755, or --chmod=u=rwX,go=rX")
        };
        match u32::from_str_radix(text, 8) {
            Ok(bits) if !text.starts_with('+') => {
                if bits > 0o7777 {
                    Err(not_octal())
                } else {
                    Ok(Self::Bits(bits))
                }
            }
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => Err(not_octal()),
            _ if crate::chmod::is_symbolic(text) => Ok(Self::Words(text.to_owned())),
            _ => Err(Error::invalid("invalid syntax").hint("write --chmod=0755, or --chmod=u=rwX,go=rX")),
        }
    }
}

/// What flags say of each copy.
fn options(mut action: CopyFile, it: &Copying<'_>, mode: &Mode) -> CopyFile {
    if !it.chown.is_empty() {
        action = action.owner(it.chown);
    }
    action = match mode {
        Mode::Keep => action,
        Mode::Bits(bits) => action.mode(*bits),
        Mode::Words(words) => action.mode_text(words),
    };
    action.exclude(it.exclude.iter().map(String::as_str))
}

/// A copy of files of a tree.
fn local_copy(it: &Copying<'_>, path: &str, dest: &str, os: &str) -> Result<CopyFile> {
    let normalize = |path: &str| {
        paths::normalize("/", path, os, false).map_err(|error| error.context("removing drive letter"))
    };
    let mut source = path.to_owned();
    let (mut include, mut required) = (Vec::new(), Vec::new());
    if it.parents {
        let (parent, pattern) = path.split_once("/./").unwrap_or(("/", path));
        let pattern = normalize(pattern)?;
        include.push(pattern.strip_prefix('/').unwrap_or(&pattern).to_owned());
        if !has_wildcards(parent) && !has_wildcards(&pattern) {
            required.push(normalize(&join([parent, &pattern]))?);
        }
        parent.clone_into(&mut source);
    }
    let unpack = it.add.is_some_and(|add| add.unpack.unwrap_or(true));
    let mut action = copy_action(&it.tree, &normalize(&source)?, dest)
        .follow_symlinks()
        .contents_only()
        .include(include)
        .required(required)
        .create_dest()
        .allow_wildcard()
        .allow_empty_wildcard();
    if unpack {
        action = action.unpack();
    }
    Ok(action)
}

fn absolute_dest(state: &State, dest: &str, os: &str) -> Result<String> {
    let dest =
        paths::without_drive(dest, os, true).map_err(|error| error.context("removing drive letter"))?;
    if paths::is_absolute(&dest, os) {
        return paths::normalize("/", &dest, os, true);
    }
    let dest = if matches!(dest.as_str(), "." | "") { "./" } else { &dest };
    paths::normalize(state.get_dir(), dest, os, true)
}

fn check_checksum(it: &Add) -> Result<()> {
    if it.checksum.is_empty() {
        return Ok(());
    }
    let [path] = it.paths.source_paths.as_slice() else {
        return Err(Error::invalid("checksum can't be specified for multiple sources")
            .hint("write one ADD for each source"));
    };
    if !is_http_source(path) && !is_repository(path) {
        return Err(Error::invalid("checksum requires HTTP(S) or Git sources").hint("remove --checksum"));
    }
    Ok(())
}

/// Whether a source is a file of a web server, and not a repository.
pub(crate) fn is_http_source(path: &str) -> bool {
    (path.starts_with("http://") || path.starts_with("https://")) && !is_repository(path)
}

fn is_repository(path: &str) -> bool {
    matches!(GitRef::parse(path), Some(Ok(_)))
}
