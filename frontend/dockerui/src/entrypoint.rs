use std::sync::Arc;

use buildkit_client_llb::{Differ, MarshalOptions, SourceMap, local};
use buildkit_frontend_dockerfile_linter as linter;
use buildkit_frontend_gateway_client::{GatewayClient, ReadFile, RemoteError, SolveRequest, Warning};
use buildkit_solver_pb::{Definition, Op, SourceInfo};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gopath::{base, dir, join};
use buildkit_util_patternmatcher::read_all;
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
        let name = &context.local_name;
        let source = local(name)
            .session_id(self.session_of(name))
            .follow([IGNORE_FILE])
            .shared_key_hint(&format!("{name}-{IGNORE_FILE}"))
            .differ(Differ::None, false);
        let tree = self.solve(&internal(source, &format!("load {IGNORE_FILE}")).state(), false).await?;
        let content = tree.read_or_nothing(IGNORE_FILE).await;
        known.insert(IgnoreFile { name: IGNORE_FILE.to_owned(), content }).patterns()
    }
}

/// The operation whose output a definition is about.
fn head(definition: &Definition) -> Option<Digest> {
    let last = Op::decode(definition.def.last()?.as_ref()).ok()?;
    last.inputs.first()?.digest.parse().ok()
}
