use std::sync::Arc;

use buildkit_client_llb::{Differ, MarshalOptions, SourceMap, local};
use buildkit_frontend_dockerfile_linter as linter;
use buildkit_frontend_gateway_client::{GatewayClient, ReadFile, RemoteError, SolveRequest, Warning};
use buildkit_solver_pb::{Definition, Op, SourceInfo};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gopath::{base, dir, join};
use buildkit_util_patternmatcher::{self as patternmatcher, PatternMatcher, read_all};
use buildkit_util_progress as progress;
use bytes::Bytes;
use prost::Message;

use crate::DockerUi;
use crate::client::{Tree, internal, single};
use crate::context::{BuildContext, DOCKERFILE_NAME};
use crate::error::{doing, invalid, malformed};

/// Name of the file that says what of a context is left out.
pub(crate) const IGNORE_FILE: &str = ".dockerignore";

/// A file that says what of a context is left out.
#[derive(Clone, Debug)]
pub(crate) struct IgnoreFile {
    name: String,
    content: Bytes,
}

impl IgnoreFile {
    pub(crate) fn patterns(&self) -> Result<Vec<String>, RemoteError> {
        read_all(&self.content).map_err(|error| invalid(format!("failed parsing {}: {error}", self.name)))
    }

    fn rules(self) -> Result<IgnoreRules, RemoteError> {
        let failed = |error| invalid(format!("failed parsing {}: {error}", self.name));
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(self.content.split(|byte| *byte == b'\n')) {
            for pattern in read_all(line).map_err(failed)? {
                let (is_exception, pattern) = match pattern.strip_prefix('!') {
                    Some(pattern) => (true, pattern),
                    None => (false, &*pattern),
                };
                if pattern.is_empty() {
                    return Err(failed(patternmatcher::Error::LoneExclusion));
                }
                let matcher = PatternMatcher::new([pattern]).map_err(failed)?;
                let text = String::from_utf8_lossy(line).trim().to_owned();
                rules.push((is_exception, matcher, IgnoreRule { line: number, text }));
            }
        }
        Ok(IgnoreRules { file: self.name, rules })
    }
}

/// A line of an ignore file that has a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreRule {
    /// Its number, from 1.
    pub line: u32,
    /// What it says, without space around it.
    pub text: String,
}

/// What an ignore file says, line by line.
#[derive(Debug)]
pub struct IgnoreRules {
    /// Name of the file.
    pub file: String,
    /// Each rule with its pattern, and whether that makes an exception.
    rules: Vec<(bool, PatternMatcher, IgnoreRule)>,
}

impl IgnoreRules {
    /// The rule that leaves out a path, by itself or with a directory that it is in; `None` if it is not left out.
    pub fn hiding(&self, path: &str) -> Option<&IgnoreRule> {
        let mut hiding = None;
        for (is_exception, matcher, rule) in &self.rules {
            // A pattern that turns out to be malformed fails the build elsewhere.
            if *is_exception == hiding.is_some() && matcher.matches_or_parent_matches(path).is_ok_and(|it| it)
            {
                hiding = (!is_exception).then_some(rule);
            }
        }
        hiding
    }
}

/// A Dockerfile as it was read.
pub struct EntryPoint {
    /// The file, for the places of steps.
    pub source_map: Arc<SourceMap>,
    /// The file as errors and lint results carry it.
    pub info: SourceInfo,
    /// The step that read it; `None` if none did.
    vertex: Option<Digest>,
    client: Arc<dyn GatewayClient>,
}

impl std::fmt::Debug for EntryPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryPoint")
            .field("source_map", &self.source_map)
            .field("vertex", &self.vertex)
            .finish()
    }
}

impl EntryPoint {
    /// What the file says.
    pub fn data(&self) -> &Bytes {
        self.source_map.data()
    }

    /// Shows a warning of the linter at the step that read the file.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn warn(&self, warning: &linter::Warning) -> Result<(), RemoteError> {
        let position = |at: buildkit_frontend_dockerfile_parser::Position| progress::Position {
            line: i32::try_from(at.line).unwrap_or(i32::MAX),
            character: i32::try_from(at.character).unwrap_or(i32::MAX),
        };
        let ranges = warning
            .ranges
            .iter()
            .map(|range| progress::Range { start: position(range.start), end: position(range.end) });
        let detail = vec![Bytes::from_static(warning.rule.description.as_bytes())];
        self.tell(warning.one_line(), detail, warning.rule.url, ranges.collect()).await
    }

    /// Shows that there are more warnings than were shown.
    ///
    /// # Errors
    /// As [`warn`](Self::warn).
    pub async fn warn_of_more(&self, count: usize) -> Result<(), RemoteError> {
        self.tell(format!("{count} more warnings are not shown"), Vec::new(), "", Vec::new()).await
    }

    async fn tell(
        &self,
        short: String,
        detail: Vec<Bytes>,
        url: &str,
        ranges: Vec<progress::Range>,
    ) -> Result<(), RemoteError> {
        let Some(vertex) = self.vertex.clone() else { return Ok(()) };
        let SourceInfo { filename, data, language, .. } = self.info.clone();
        self.client
            .warn(Warning {
                vertex,
                level: 1,
                short: short.into(),
                detail,
                url: url.to_owned(),
                source_info: Some(progress::SourceInfo { filename, data, language }),
                ranges,
            })
            .await
    }
}

impl DockerUi {
    /// Reads the Dockerfile, and the ignore file that is its own. `language` is what progress calls the content.
    ///
    /// # Errors
    /// When there is none, or its tree cannot be made.
    pub async fn read_entrypoint(&self, language: &str) -> Result<EntryPoint, RemoteError> {
        let context = self.build_context().await?;
        let name = &context.filename;
        let own_ignore_file = format!("{name}{IGNORE_FILE}");
        // The name has been taken in lower case, too, for long.
        let other_name =
            (base(name) == DOCKERFILE_NAME).then(|| join([dir(name), DOCKERFILE_NAME.to_lowercase()]));
        let state = match &context.dockerfile {
            Some(state) => state.clone(),
            None => {
                let files = [name.clone(), own_ignore_file.clone()].into_iter().chain(other_name.clone());
                let directory = &context.dockerfile_local_name;
                let source = local(directory)
                    .follow(files)
                    .session_id(self.session_of(directory))
                    .shared_key_hint(directory)
                    .differ(Differ::None, false);
                internal(source, &format!("load build definition from {name}")).state()
            }
        };
        let definition = state
            .marshal(&MarshalOptions::new())
            .map_err(|error| doing("failed to marshal local source", malformed(error)))?;
        let vertex = head(&definition);
        let request = SolveRequest { definition: Some(definition.clone()), ..SolveRequest::default() };
        let failed = |error| doing("failed to resolve dockerfile", error);
        let tree = Tree::new(single(self.client.solve(request).await.map_err(failed)?)?);
        let data = match tree.read(ReadFile::whole(name)).await {
            Ok(data) => data,
            Err(error) => {
                let other = match &other_name {
                    Some(other) => tree.read(ReadFile::whole(other)).await.ok(),
                    None => None,
                };
                other.ok_or_else(|| doing("failed to read dockerfile", error))?
            }
        };
        if let Ok(content) = tree.read(ReadFile::whole(&own_ignore_file)).await {
            *self.ignore_file.lock().await = Some(IgnoreFile { name: own_ignore_file, content });
        }
        Ok(EntryPoint {
            info: SourceInfo {
                filename: name.clone(),
                data: data.clone(),
                definition: Some(definition),
                language: language.to_owned(),
            },
            source_map: SourceMap::with_state(state, name, language, data),
            vertex,
            client: self.client.clone(),
        })
    }

    /// What of the main context is left out; nothing, if that is no directory of the user.
    ///
    /// # Errors
    /// When the ignore file cannot be read.
    pub async fn ignored_patterns(&self) -> Result<Vec<String>, RemoteError> {
        let context = self.build_context().await?;
        if context.tree.is_some() { Ok(Vec::new()) } else { self.ignored_in(context).await }
    }

    /// What of a directory of the user is left out, by the ignore file of the Dockerfile or that of the directory.
    pub(crate) async fn ignored_in(&self, context: &BuildContext) -> Result<Vec<String>, RemoteError> {
        let mut known = self.ignore_file.lock().await;
        if let Some(file) = &*known {
            return file.patterns();
        }
        let file = self.load_ignore_file(&context.local_name).await?;
        known.insert(file).patterns()
    }

    async fn load_ignore_file(&self, directory: &str) -> Result<IgnoreFile, RemoteError> {
        let source = local(directory)
            .session_id(self.session_of(directory))
            .follow([IGNORE_FILE])
            .shared_key_hint(&format!("{directory}-{IGNORE_FILE}"))
            .differ(Differ::None, false);
        let tree = self.solve(&internal(source, &format!("load {IGNORE_FILE}")).state(), false).await?;
        let content = tree.read_or_nothing(IGNORE_FILE).await;
        Ok(IgnoreFile { name: IGNORE_FILE.to_owned(), content })
    }

    /// The rules by which files of a directory of the user are left out: for the main context those of the
    /// Dockerfile's own ignore file, if it has one and was [read](Self::read_entrypoint).
    ///
    /// # Errors
    /// When the ignore file cannot be read.
    pub async fn ignore_rules(&self, directory: &str) -> Result<IgnoreRules, RemoteError> {
        let context = self.build_context().await?;
        if context.tree.is_some() || context.local_name != directory {
            return self.load_ignore_file(directory).await?.rules();
        }
        self.ignored_in(context).await?;
        match &*self.ignore_file.lock().await {
            Some(file) => file.clone().rules(),
            None => IgnoreFile { name: IGNORE_FILE.to_owned(), content: Bytes::new() }.rules(),
        }
    }
}

/// The operation whose output a definition is about.
fn head(definition: &Definition) -> Option<Digest> {
    let last = Op::decode(definition.def.last()?.as_ref()).ok()?;
    last.inputs.first()?.digest.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_matches_hides() {
        let content = Bytes::from_static(
            "\u{feff}a\n\n# b\r\n/dir/\r\n  *.log\n! keep.log\nkeep*\n!dir/x\n".as_bytes(),
        );
        let rules = IgnoreFile { name: IGNORE_FILE.to_owned(), content }.rules().expect("rules");
        for (path, expected) in [
            ("a", Some((1, "a"))),
            ("a/b", Some((1, "a"))),
            ("dir/deep/file", Some((4, "/dir/"))),
            ("dir/x", None),
            ("x.log", Some((5, "*.log"))),
            ("keep.log", Some((7, "keep*"))),
            ("b", None),
        ] {
            let found = rules.hiding(path).map(|rule| (rule.line, rule.text.trim_start_matches('\u{feff}')));
            assert_eq!(found, expected, "{path}");
        }
        let content = Bytes::from_static(b"a\n!\n");
        assert!(IgnoreFile { name: IGNORE_FILE.to_owned(), content }.rules().is_err());
    }
}
