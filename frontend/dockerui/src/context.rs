use buildkit_client_llb::{Local, State, copy, git, http, local, scratch};
use buildkit_frontend_dockerfile_dfgitutil::{GitRef, MTime};
use buildkit_frontend_gateway_client::{FileRange, ReadFile, RemoteError};
use buildkit_frontend_gateway_pb::caps::FRONTEND_INPUTS;
use buildkit_util_gopath::join;
use buildkit_util_gotext::parse_bool;

use crate::archive::is_archive;
use crate::client::{input_state, internal};
use crate::error::{doing, invalid};
use crate::{BUILD_ARG_PREFIX, DockerUi};

/// Names of the user's directories.
const CONTEXT: &str = "context";
const DOCKERFILE: &str = "dockerfile";

/// Name of the file of a Dockerfile, if the user says none.
pub(crate) const DOCKERFILE_NAME: &str = "Dockerfile";

/// Name of the file that a download becomes.
pub(crate) const DOWNLOAD: &str = "context";

/// How much of a download is looked at to tell what it is, in bytes.
const HEADER: u64 = 1024;

/// Where the files of a build come from.
#[derive(Debug)]
pub(crate) struct BuildContext {
    /// The tree of the context, unless it is a directory of the user.
    pub(crate) tree: Option<State>,
    /// The tree that has the Dockerfile, unless it is a directory of the user.
    pub(crate) dockerfile: Option<State>,
    /// Name of the user's directory that is the context.
    pub(crate) local_name: String,
    /// Name of the user's directory that has the Dockerfile.
    pub(crate) dockerfile_local_name: String,
    /// Path of the Dockerfile in its tree.
    pub(crate) filename: String,
}

impl DockerUi {
    /// Where the files of the build come from; found out once.
    pub(crate) async fn build_context(&self) -> Result<&BuildContext, RemoteError> {
        self.context.get_or_try_init(|| self.find_context()).await
    }

    /// Name of the user's directory that has the Dockerfile, and its path there; `None` if it is no directory of the
    /// user.
    ///
    /// # Errors
    /// When the context cannot be found.
    pub async fn dockerfile_path(&self) -> Result<Option<(&str, &str)>, RemoteError> {
        let context = self.build_context().await?;
        let is_local = context.dockerfile.is_none();
        Ok(is_local.then_some((&*context.dockerfile_local_name, &*context.filename)))
    }

    async fn find_context(&self) -> Result<BuildContext, RemoteError> {
        let forced = self.option("dockerfilekey");
        let mut context = BuildContext {
            tree: None,
            dockerfile: None,
            local_name: CONTEXT.to_owned(),
            dockerfile_local_name: forced.unwrap_or(DOCKERFILE).to_owned(),
            filename: self.option("filename").unwrap_or(DOCKERFILE_NAME).to_owned(),
        };
        let key = self.option("contextkey").unwrap_or(CONTEXT);
        let name = self.option(key).unwrap_or_default();
        let keep_git = self.option("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR").and_then(parse_bool);
        let times =
            self.option(&format!("{BUILD_ARG_PREFIX}SOURCE_DATE_EPOCH")).filter(|epoch| !epoch.is_empty());
        if let Some(tree) = git_context(name, keep_git == Some(true), times.is_some()) {
            let tree = tree?;
            context.dockerfile = Some(tree.clone());
            context.tree = Some(tree);
        } else if is_web(name) {
            self.take_download(&mut context, name).await?;
        } else if self.client.build_opts().caps.contains(FRONTEND_INPUTS) {
            let failed = |error| doing("failed to get frontend inputs", error);
            let inputs = self.client.inputs().await.map_err(failed)?;
            let input = |name: &str| inputs.get(name).map(input_state).transpose().map_err(failed);
            if forced.is_none() {
                context.dockerfile = input(&context.dockerfile_local_name)?;
            }
            context.tree = input(CONTEXT)?;
        }
        if forced.is_some() {
            context.dockerfile = None;
        }
        if let (Some(tree), Some(folder)) = (&context.tree, self.option("contextsubdir")) {
            context.tree = Some(scratch().file(copy(tree, folder, "/").contents_only()));
        }
        Ok(context)
    }

    /// A Dockerfile of the web, or an archive with one and all that it needs.
    async fn take_download(&self, context: &mut BuildContext, url: &str) -> Result<(), RemoteError> {
        let download = internal(http(url).filename(DOWNLOAD), "load remote build context").state();
        let solved = self.solve(&download, false).await;
        let solved = solved.map_err(|error| doing("failed to resolve httpcontext", error))?;
        let range = FileRange { offset: 0, length: HEADER };
        let header = solved.read(ReadFile { path: DOWNLOAD.to_owned(), range: Some(range) }).await;
        let header = header.map_err(|error| doing("failed to read downloaded context", error))?;
        let tree = if is_archive(&header) {
            scratch().file(copy(&download, &join(["/", DOWNLOAD]), "/").unpack())
        } else {
            DOWNLOAD.clone_into(&mut context.filename);
            download
        };
        context.dockerfile = Some(tree.clone());
        context.tree = Some(tree);
        Ok(())
    }

    /// The files that are built from. If they are a directory of the user, `adjust` says more about which of them
    /// are wanted; what its ignore file names is left out already.
    ///
    /// # Errors
    /// When the context cannot be found, or its ignore file cannot be read.
    pub async fn main_context(&self, adjust: impl FnOnce(Local) -> Local) -> Result<State, RemoteError> {
        let context = self.build_context().await?;
        if let Some(tree) = &context.tree {
            return Ok(tree.clone());
        }
        let failed = |error| doing("failed to read dockerignore patterns", error);
        let ignored = self.ignored_in(context).await.map_err(failed)?;
        let directory = local(&context.local_name)
            .session_id(self.session_of(&context.local_name))
            .exclude(ignored)
            .shared_key_hint(&context.local_name);
        Ok(adjust(internal(directory, "load build context")).state())
    }
}

/// The tree of a repository; `None` if the text does not name one.
pub(crate) fn git_context(
    text: &str,
    keep_git: bool,
    times_of_commit: bool,
) -> Option<Result<State, RemoteError>> {
    let reference = match GitRef::parse(text)? {
        Ok(reference) => reference,
        Err(error) => return Some(Err(invalid(error))),
    };
    let mut tree = internal(git(&reference.remote, ""), &format!("load git source {text}"))
        .reference(&reference.reference);
    if keep_git || reference.keep_git_dir == Some(true) {
        tree = tree.keep_git_dir();
    }
    if !reference.subdir.is_empty() {
        tree = tree.subdir(&reference.subdir);
    }
    if !reference.checksum.is_empty() {
        tree = tree.checksum(&reference.checksum);
    }
    if reference.submodules == Some(false) {
        tree = tree.skip_submodules();
    }
    let times = reference.mtime.or(times_of_commit.then_some(MTime::Commit));
    if let Some(times) = times {
        tree = tree.mtime(times.as_str());
    }
    if reference.fetch_by_commit {
        tree = tree.fetch_by_commit();
    }
    Some(Ok(tree.state()))
}

pub(crate) fn is_web(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
