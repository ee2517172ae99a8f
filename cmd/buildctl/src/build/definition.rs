//! What is built: a graph from standard input, what a frontend makes, or the folder that one is in.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use buildkit_client::Frontend;
use buildkit_solver_pb::{Definition, OpMetadata, map};
use buildkit_util_cachedigest::Digest;
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The frontend of a folder with a Dockerfile.
const DOCKERFILE_FRONTEND: &str = "dockerfile.v0";
/// Names of the folders that it reads.
const CONTEXT: &str = "context";
const DOCKERFILE: &str = "dockerfile";
/// How long standard input may be silent before people are told what is waited for.
const SILENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
const NO_FRONTEND: &str = "please specify --frontend or pipe LLB definition to stdin";
const EMPTY: &str = "empty definition sent to build. Specify --frontend instead?";

/// Settles who makes the graph. Who names no frontend and pipes no graph builds the folder that they are in, or the one that
/// they name, if that has a Dockerfile. Options and folders that are named stay as they are.
pub(super) fn settle(
    frontend: &mut Frontend,
    local: &mut BTreeMap<String, PathBuf>,
    no_cache: bool,
) -> Result<Option<Definition>> {
    let mut definition = None;
    if frontend.name.is_empty() {
        let piped = piped()?;
        if piped.as_ref().is_none_or(Vec::is_empty) {
            let reason = if piped.is_some() { EMPTY } else { NO_FRONTEND };
            default_to_folder(frontend, local, reason)?;
        } else {
            definition = piped.map(|data| parse(&data, no_cache)).transpose()?;
        }
    }
    if definition.is_none() && no_cache {
        frontend.options.insert("no-cache".to_owned(), String::new());
    }
    Ok(definition)
}

/// Everything on standard input; `None` if people type there.
fn piped() -> Result<Option<Vec<u8>>> {
    let mut stdin = std::io::stdin();
    if rustix::termios::isatty(&stdin) {
        return Ok(None);
    }
    if !is_ready(&stdin) {
        tracing::info!("waiting for a definition on standard input; with --frontend none is read");
    }
    let mut data = Vec::new();
    stdin.read_to_end(&mut data).context("failed to read standard input")?;
    Ok(Some(data))
}

/// Whether something comes within the time in which a program starts to write.
fn is_ready(stdin: &std::io::Stdin) -> bool {
    let mut wanted = [PollFd::new(stdin, PollFlags::IN)];
    // If it cannot be asked, it is read.
    poll(&mut wanted, Some(&SILENCE)).map_or(true, |ready| ready > 0)
}

/// Parses a definition; with `no_cache` every op ignores the cache.
fn parse(data: &[u8], no_cache: bool) -> Result<Definition> {
    let mut definition = Definition::decode(data).context("failed to parse input")?;
    if definition.def.is_empty() {
        bail!("{EMPTY}");
    }
    if no_cache {
        let mut metadata: BTreeMap<String, OpMetadata> = map::to_map(definition.metadata);
        for op in &definition.def {
            let digest = Digest::sha256(op).as_str().to_owned();
            metadata.entry(digest).or_default().ignore_cache = true;
        }
        definition.metadata = map::from_map(metadata);
    }
    Ok(definition)
}

/// Chooses the frontend of folders with a Dockerfile; without one, says `reason` and what is missing.
fn default_to_folder(
    frontend: &mut Frontend,
    local: &mut BTreeMap<String, PathBuf>,
    reason: &str,
) -> Result<()> {
    let context = local.get(CONTEXT).cloned().unwrap_or_else(|| PathBuf::from("."));
    let dockerfile = local.get(DOCKERFILE).cloned().unwrap_or_else(|| context.clone());
    let name = frontend.options.get("filename").filter(|name| !name.is_empty());
    let names: &[&str] = match name {
        Some(name) => &[name],
        None => &["Dockerfile", "dockerfile"],
    };
    // What is not in a folder of ours, the daemon has to find.
    let is_elsewhere = frontend.options.contains_key(CONTEXT);
    if !is_elsewhere && !names.iter().any(|name| dockerfile.join(name).exists()) {
        let folder = std::path::absolute(&dockerfile).unwrap_or(dockerfile);
        let name = names.first().copied().unwrap_or_default();
        bail!("{reason} (There is no {name} in {} that could be built)", folder.display());
    }
    DOCKERFILE_FRONTEND.clone_into(&mut frontend.name);
    if !is_elsewhere {
        local.entry(CONTEXT.to_owned()).or_insert(context);
        local.entry(DOCKERFILE.to_owned()).or_insert(dockerfile);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            fs_err::write(folder.path().join(file), "FROM scratch\n").expect("a file");
        }
        folder
    }

    fn with(folder: &Path) -> BTreeMap<String, PathBuf> {
        [(CONTEXT.to_owned(), folder.to_owned())].into()
    }

    #[test]
    fn c_23_folders_with_a_dockerfile_need_no_flags_and_others_are_named() {
        for file in ["Dockerfile", "dockerfile"] {
            let folder = folder(&[file]);
            let (mut frontend, mut local) = (Frontend::default(), with(folder.path()));
            default_to_folder(&mut frontend, &mut local, NO_FRONTEND).expect("has one");
            assert_eq!(frontend.name, "dockerfile.v0");
            assert_eq!(local[DOCKERFILE], folder.path());
            assert_eq!(local[CONTEXT], folder.path());
        }
        let empty = folder(&[]);
        let mut local = with(empty.path());
        let error =
            default_to_folder(&mut Frontend::default(), &mut local, NO_FRONTEND).expect_err("has none");
        let text = error.to_string();
        assert!(text.starts_with(NO_FRONTEND), "{text}");
        let hint = format!("(There is no Dockerfile in {} that could be built)", empty.path().display());
        assert!(text.ends_with(&hint), "{text}");
    }

    #[test]
    fn options_say_where_else_a_dockerfile_is() {
        let folder = folder(&["other"]);
        let option = |key: &str, value: &str| Frontend {
            options: [(key.to_owned(), value.to_owned())].into(),
            ..Frontend::default()
        };
        let mut local = with(folder.path());
        default_to_folder(&mut option("filename", "other"), &mut local, EMPTY).expect("has it");
        let mut frontend = option("filename", "none");
        assert!(default_to_folder(&mut frontend, &mut local, EMPTY).is_err());
        // No folder of the user's is shown to a build that is somewhere else.
        let (mut frontend, mut local) = (option(CONTEXT, "https://example.org/a.git"), BTreeMap::new());
        default_to_folder(&mut frontend, &mut local, EMPTY).expect("is elsewhere");
        assert_eq!((frontend.name.as_str(), local.len()), ("dockerfile.v0", 0));
    }

    #[test]
    fn graphs_can_be_told_to_ignore_the_cache() {
        let definition = Definition { def: vec!["op".into()], ..Definition::default() };
        let data = definition.encode_to_vec();
        assert_eq!(parse(&data, false).expect("parses"), definition);
        let metadata: BTreeMap<String, OpMetadata> =
            map::to_map(parse(&data, true).expect("parses").metadata);
        assert!(metadata.values().all(|metadata| metadata.ignore_cache) && metadata.len() == 1);
        assert_eq!(parse(b"", false).expect_err("empty").to_string(), EMPTY);
    }
}
