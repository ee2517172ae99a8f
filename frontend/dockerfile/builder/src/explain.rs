//! What people can do about a build that failed.

use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::Kind;
use buildkit_frontend_dockerui::DockerUi;
use buildkit_frontend_gateway_client::{GatewayClient, RemoteError, SolveRequest};
use buildkit_solver_errdefs::{ParsedDetail, parse};
use buildkit_solver_pb::Definition;

use crate::build::{LANGUAGE, single};
use crate::graph::{FailedInput, Graph};
use crate::missing::Place;

/// How long a hint is looked for: the build has failed, whatever it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// What stands before a hint, which is a line of its own.
const HINT: &str = "\nhint: ";

/// What stands around the input and the path in the error of a file that is not there.
const BEFORE_INPUT: &str = "failed to calculate checksum of ref ";
const AFTER_PATH: &str = ": not found";
const AFTER_EMPTY: &str = ": no such file or directory";

/// Adds a hint to the text of an error, if there is one.
pub(crate) fn with_hint(mut error: RemoteError, hint: Option<String>) -> RemoteError {
    if let Some(hint) = hint.filter(|_| !error.message.contains(HINT)) {
        error.message.push_str(HINT);
        error.message.push_str(&hint);
    }
    error
}

/// Says what was probably meant, or what can be done. Anything that goes wrong here leaves the error as it is.
pub(crate) async fn explain(
    client: Arc<dyn GatewayClient>,
    definition: Option<Arc<Definition>>,
    mut error: RemoteError,
) -> RemoteError {
    if let Some(hint) = of_step(&error) {
        return with_hint(error, Some(hint));
    }
    let Some(definition) = definition else { return error };
    let Some(missing) = MissingPath::of(&error.message) else { return error };
    let graph = Graph::new(&definition);
    let Some(input) = graph.failed_input(&error) else { return error };
    let (path, start, end) = (missing.path, missing.input.start, missing.input.end);
    let escapes = leads_out(&error);
    error.message.replace_range(start..end, &input.name());
    if escapes && input.directory().is_some() {
        let hint = "files outside of the build context cannot be copied".to_owned();
        return with_hint(error, Some(hint));
    }
    let hint = tokio::time::timeout(PATIENCE, find(client, &input, &path)).await;
    match hint {
        Ok(Ok(hint)) => with_hint(error, hint),
        Ok(Err(cause)) => {
            tracing::debug!(%cause, path, "no names near a missing one");
            error
        }
        Err(_) => {
            tracing::debug!(path, "names near a missing one were not found in time");
            error
        }
    }
}

/// As [`explain`], for a Dockerfile that is not there.
pub(crate) async fn missing_file(ui: &DockerUi, error: RemoteError) -> RemoteError {
    if error.kind != Kind::NotFound {
        return error;
    }
    let find = async {
        let Some((name, path)) = ui.dockerfile_path().await? else { return Ok(None) };
        Place::Directory { ui, name: name.to_owned(), rules: None }.hint(path).await
    };
    match tokio::time::timeout(PATIENCE, find).await {
        Ok(Ok::<_, RemoteError>(hint)) => with_hint(error, hint),
        _ => error,
    }
}

async fn find(
    client: Arc<dyn GatewayClient>,
    input: &FailedInput<'_>,
    path: &str,
) -> Result<Option<String>, RemoteError> {
    let Some((name, leaves_out)) = input.directory() else {
        let request = SolveRequest { definition: Some(input.definition()), ..SolveRequest::default() };
        let tree = single(client.solve(request).await?)?;
        return Place::Tree(tree).hint(path).await;
    };
    let ui = DockerUi::new(client)?;
    let rules = if leaves_out {
        // Finds an ignore file that is the Dockerfile's own.
        ui.read_entrypoint(LANGUAGE).await?;
        Some(ui.ignore_rules(name).await?)
    } else {
        None
    };
    Place::Directory { ui: &ui, name: name.to_owned(), rules }.hint(path).await
}

/// A path that is not there, in the text of an error.
#[derive(Debug, PartialEq)]
struct MissingPath {
    path: String,
    /// Where the text names the input.
    input: std::ops::Range<usize>,
}

impl MissingPath {
    fn of(message: &str) -> Option<Self> {
        let start = message.rfind(BEFORE_INPUT)? + BEFORE_INPUT.len();
        let (input, rest) = message[start..].split_once(": ")?;
        let quoted = rest.strip_suffix(AFTER_PATH).or_else(|| rest.strip_suffix(AFTER_EMPTY))?;
        let path = match quoted.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            None => quoted.to_owned(),
        };
        Some(Self { path, input: start..start + input.len() })
    }
}

/// A text without Go's escapes; `None` if it has such as nobody writes in a Dockerfile.
fn unquoted(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | '"'))?),
            c => out.push(c),
        }
    }
    Some(out)
}

/// Whether the instruction that failed names something above the context.
fn leads_out(error: &RemoteError) -> bool {
    let Some((info, ranges)) = error.details.iter().find_map(|detail| match parse(detail)? {
        ParsedDetail::Source { info, ranges } => Some((info, ranges)),
        _ => None,
    }) else {
        return false;
    };
    let text = String::from_utf8_lossy(&info.data);
    let in_range = |number: i32| {
        ranges.iter().any(|range| {
            let line = |at: Option<buildkit_solver_pb::Position>| at.map_or(0, |at| at.line);
            (line(range.start)..=line(range.end)).contains(&number)
        })
    };
    let lines = (1..).zip(text.lines()).filter(|(number, _)| in_range(*number));
    lines.flat_map(|(_, line)| line.split_whitespace()).any(|word| word == ".." || word.starts_with("../"))
}

/// What can be done about a step that failed for what it is.
fn of_step(error: &RemoteError) -> Option<String> {
    let code = error.details.iter().find_map(|detail| match parse(detail)? {
        ParsedDetail::Exit(code) => Some(code),
        _ => None,
    });
    let text = match code {
        Some(126) => {
            "126 is what a shell ends with when a file cannot be executed: check its mode and `#!` line"
        }
        Some(127) => {
            "127 is what a shell ends with when there is no such command: check PATH and what is installed"
        }
        Some(137) => "137 is what killed processes end with, often for lack of memory",
        Some(139) => "139 is what a process ends with that used memory which is not its own",
        Some(_) => "what the step printed is shown above",
        None => return of_text(&error.message),
    };
    Some(text.to_owned())
}

/// What a build needs from who starts it.
fn of_text(message: &str) -> Option<String> {
    let between = |before: &str, after: &str| {
        let (_, rest) = message.rsplit_once(before)?;
        rest.strip_suffix(after).filter(|name| !name.contains(char::is_whitespace))
    };
    if let Some(id) = between("secret ", AFTER_PATH) {
        return Some(format!("give it with --secret id={id},src=FILE, or remove `required`"));
    }
    let key = || between("no SSH key \"", "\" forwarded from the client");
    if let Some(id) = between("unset ssh forward key ", "").or_else(key) {
        // The default one need not be named in the file.
        let id = if id.is_empty() { "default" } else { id };
        return Some(format!("give an agent or a key with --ssh {id}, or remove `required`"));
    }
    let is_unknown = |what: &str, file: &str| {
        between(&format!("unable to find {what} "), &format!(": no matching entries in {file} file"))
            .is_some()
    };
    if is_unknown("user", "passwd") || is_unknown("group", "group") {
        return Some("add it in a RUN above USER, or write a number".to_owned());
    }
    // Where there are files, their checksum is what fails.
    if message.starts_with("lstat ") && message.ends_with(AFTER_EMPTY) {
        return Some("the stage that it is copied from is empty".to_owned());
    }
    let what = message.strip_suffix(" is not allowed")?.rsplit(char::is_whitespace).next()?;
    Some(format!("allow it with --allow {what}, and in the configuration of the daemon"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_paths_are_found_in_texts() {
        let text = r#"failed to compute cache key: failed to calculate checksum of ref input-0: "/a \"b\"": not found"#;
        let missing = MissingPath::of(text).expect("a path");
        assert_eq!((missing.path.as_str(), &text[missing.input]), (r#"/a "b""#, "input-0"));
        let text = "failed to calculate checksum of ref input-1: /x: no such file or directory";
        assert_eq!(MissingPath::of(text).expect("a path").path, "/x");
        for text in [
            "",
            "not found",
            "failed to calculate checksum of ref x",
            r#"failed to calculate checksum of ref x: "/\x00": not found"#,
            r#"failed to calculate checksum of ref x: "/a": not found and more"#,
            r#"failed to calculate checksum of ref x: "": not found"#,
        ] {
            let path = MissingPath::of(text).map(|missing| missing.path);
            assert!(path.is_none_or(|path| path.is_empty()), "{text}");
        }
    }

    #[test]
    fn hints_are_given_once() {
        let error = with_hint(RemoteError::new(Kind::NotFound, "gone"), Some("look".to_owned()));
        assert_eq!(error.message, "gone\nhint: look");
        assert_eq!(with_hint(error.clone(), Some("again".to_owned())), error);
        assert_eq!(with_hint(error.clone(), None), error);
    }

    #[test]
    fn what_users_have_to_give_is_named() {
        for (text, hint) in [
            ("failed: secret key: not found", Some("--secret id=key,src=FILE")),
            ("unset ssh forward key default", Some("--ssh default")),
            ("security.insecure is not allowed", Some("--allow security.insecure")),
            ("failed to load: network.host is not allowed", Some("--allow network.host")),
            ("something is not found", None),
        ] {
            let found = of_text(text);
            assert_eq!(found.is_some(), hint.is_some(), "{text}");
            assert!(found.unwrap_or_default().contains(hint.unwrap_or_default()), "{text}");
        }
    }
}
