use buildkit_client_llb::{Constrained, Differ, Late, Local, State, http, image, local, oci_layout, scratch};
use buildkit_client_llb_sourceresolver::{LayoutStore, platform_to};
use buildkit_exporter_containerimage_exptypes::platform_id;
use buildkit_frontend_gateway_client::{ImageConfigError, MetaRequest, RemoteError};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gotext::quoted;
use buildkit_util_ocispec::{DockerImage, Platform};
use buildkit_util_reference::{ParseError, Reference};

use crate::DockerUi;
use crate::client::input_state;
use crate::context::{DOWNLOAD, git_context};
use crate::entrypoint::IGNORE_FILE;
use crate::error::{doing, invalid, malformed};
use crate::input_metadata::image_config_of;

/// The image that is an empty tree.
const EMPTY_IMAGE: &str = "scratch";

/// How often source policies may put something else in the place of one context.
const MAX_CONVERSIONS: usize = 10;

/// What a named context is wanted for.
#[derive(Clone, Debug, Default)]
pub struct ContextRequest {
    /// The platform of images; `None` is that of the daemon.
    pub platform: Option<Platform>,
    /// Where images may be taken from: `default`, `pull` or `local`; empty is `default`.
    pub resolve_mode: String,
    /// The ignore file of a directory is not heeded.
    pub no_dockerignore: bool,
}

/// A context that the user gave a name, to be used in place of an image or a stage of that name.
#[derive(Debug)]
pub struct NamedContext<'a> {
    ui: &'a DockerUi,
    /// What it is: `SCHEME:REST`.
    input: String,
    /// Its name as images have theirs, in the short form.
    name: String,
    /// The name under which the user gave it, mostly with `::PLATFORM`.
    full_name: String,
    request: ContextRequest,
}

/// A named context that is ready to be built upon.
#[derive(Debug)]
pub struct NamedTree {
    /// Its tree, with what processes inherit of an image.
    pub state: State,
    /// Its image; `None` if it is none. When it was made is not kept.
    pub image: Option<DockerImage>,
    /// What an image's name stands for.
    pub digest: Option<Digest>,
    /// A directory of the user, to be decided before the graph is written.
    pub directory: Option<LateDirectory>,
}

/// A directory of the user of which the files that are wanted are not known yet.
#[derive(Debug)]
pub struct LateDirectory {
    late: Late,
    directory: Local,
}

impl LateDirectory {
    /// Decides which files are wanted, as `adjust` says. To be called once, before the graph is written.
    pub fn decide(self, adjust: impl FnOnce(Local) -> Local) {
        self.late.set(&adjust(self.directory).state());
    }
}

impl NamedTree {
    fn plain(state: State) -> Self {
        Self { state, image: None, digest: None, directory: None }
    }
}

impl DockerUi {
    /// The context that takes the place of an image or a stage: that for the platform, or that for all.
    ///
    /// # Errors
    /// When the name could not be that of an image.
    pub fn named_context(
        &self,
        name: &str,
        request: ContextRequest,
    ) -> Result<Option<NamedContext<'_>>, RemoteError> {
        let reference = Reference::parse(name)
            .map_err(|error| invalid(format!("invalid context name {name}: {error}")))?;
        let familiar = reference.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let platform = request.platform.clone().unwrap_or_else(Platform::native).normalized();
        let of_platform = format!("{name}::{}", platform_id(&platform));
        let given = [of_platform.as_str(), name]
            .into_iter()
            .find_map(|full_name| Some((full_name, self.option(&format!("context:{full_name}"))?)));
        Ok(given.map(|(full_name, input)| NamedContext {
            ui: self,
            input: input.to_owned(),
            name: name.to_owned(),
            full_name: full_name.to_owned(),
            request,
        }))
    }
}

impl NamedContext<'_> {
    /// Finds out all that is to be known of it. An image in whose place a source policy puts something else is a
    /// context of that kind.
    ///
    /// # Errors
    /// When its description makes no sense, or what it describes is not there.
    pub async fn load(mut self) -> Result<NamedTree, RemoteError> {
        for _ in 0..=MAX_CONVERSIONS {
            match self.load_once().await {
                Err(ImageConfigError::NotAnImage { updated, .. }) => {
                    let (scheme, rest) = updated
                        .split_once("://")
                        .ok_or_else(|| invalid(format!("could not parse ref: {updated}")))?;
                    // Of a directory only the name is written.
                    self.input = if scheme == "local" { format!("local:{rest}") } else { updated };
                }
                loaded => return Ok(loaded?),
            }
        }
        Err(invalid(format!(
            "context recursion limit exceeded; this may indicate a cycle in the provided source policies: {}",
            self.input
        )))
    }

    async fn load_once(&self) -> Result<NamedTree, ImageConfigError> {
        let Self { input, full_name, .. } = self;
        let (scheme, rest) = input
            .split_once(':')
            .ok_or_else(|| invalid(format!("invalid context specifier {input} for {full_name}")))?;
        let tree = match scheme {
            "docker-image" => return self.load_image(rest.strip_prefix("//").unwrap_or(rest)).await,
            "oci-layout" => self.load_layout(rest.strip_prefix("//").unwrap_or(rest)).await,
            "local" => self.load_directory(rest).await,
            "input" => self.load_input(rest).await,
            "http" | "https" => match git_context(input, false, false) {
                Some(tree) => tree.map(NamedTree::plain),
                None => {
                    let download = http(input).filename(DOWNLOAD);
                    Ok(NamedTree::plain(download.custom_name(&self.title(input)).state()))
                }
            },
            scheme if scheme == "git" || scheme.starts_with("git@") => git_context(input, false, false)
                .ok_or_else(|| invalid(format!("invalid git context {input}")))?
                .map(NamedTree::plain),
            other => Err(invalid(format!("unsupported context source {other} for {full_name}"))),
        };
        Ok(tree?)
    }

    /// The name of a step about it in progress.
    fn title(&self, what: &str) -> String {
        format!("[context {}] {what}", self.full_name)
    }

    async fn load_image(&self, name: &str) -> Result<NamedTree, ImageConfigError> {
        if name == EMPTY_IMAGE {
            return Ok(NamedTree::plain(scratch()));
        }
        let reference = Reference::parse(name).map_err(invalid)?.with_default_tag().to_string();
        let request = MetaRequest {
            log_name: self.title(&format!("load metadata for {name}")),
            platform: self.request.platform.clone(),
            resolve_mode: self.request.resolve_mode.clone(),
            ..MetaRequest::default()
        };
        let found = self.ui.client.resolve_image_config(&reference, request).await?;
        let parsed = serde_json::from_slice(&found.config).map_err(invalid)?;
        let source = image(&found.reference).custom_name(&self.title(name));
        let state = self.with_platform(source).state();
        Ok(NamedTree {
            state: state.with_image_config(&found.config).map_err(malformed)?,
            image: Some(DockerImage { created: None, ..parsed }),
            digest: Some(found.digest),
            directory: None,
        })
    }

    async fn load_layout(&self, name: &str) -> Result<NamedTree, RemoteError> {
        let unread = |what: &str, error: &dyn std::fmt::Display| {
            invalid(format!("could not parse oci-layout reference {}: {error}", quoted(what)))
        };
        let digest = Reference::parse(name)
            .map_err(|error| match error {
                // The name of a store is no repository, so nothing is put before it.
                ParseError::UpperCase(_) => unread(name, &"repository name must be lowercase"),
                error => unread(name, &error),
            })?
            .digest()
            .cloned()
            .ok_or_else(|| invalid(format!("oci-layout reference {} has no digest", quoted(name))))?;
        let store = store_id(name);
        // The store is the client's: the name is only shown.
        let shown = Reference::parse(&self.name)
            .map_err(|error| unread(&self.name, &error))?
            .with_digest(digest)
            .to_string();
        let session = &self.ui.client.build_opts().session_id;
        let request = MetaRequest {
            log_name: self.title(&format!("load metadata for {shown}")),
            platform: self.request.platform.clone(),
            layout: Some(LayoutStore { session_id: session.clone(), store_id: store.to_owned() }),
            ..MetaRequest::default()
        };
        let found = self.ui.client.resolve_image_config(&shown, request).await?;
        let image = serde_json::from_slice(&found.config)
            .map_err(|error| invalid(format!("could not parse oci-layout image config: {error}")))?;
        let source =
            oci_layout(&shown).store(session, store).custom_name(&self.title("OCI load from client"));
        let state = self.with_platform(source).state();
        Ok(NamedTree {
            state: state.with_image_config(&found.config).map_err(malformed)?,
            image: Some(image),
            digest: Some(found.digest),
            directory: None,
        })
    }

    async fn load_directory(&self, name: &str) -> Result<NamedTree, RemoteError> {
        let Self { ui, full_name, .. } = self;
        let session = ui.session_of(name);
        let ignore_file = local(name)
            .session_id(session)
            .follow([IGNORE_FILE])
            .shared_key_hint(&format!("context:{full_name}-{IGNORE_FILE}"))
            .custom_name(&self.title(&format!("load {IGNORE_FILE}")))
            .differ(Differ::None, false);
        let tree = ui.solve(&ignore_file.state(), true).await?;
        let mut ignored = Vec::new();
        if !self.request.no_dockerignore {
            let content = tree.read_or_nothing(IGNORE_FILE).await;
            ignored = buildkit_util_patternmatcher::read_all(&content)
                .map_err(|error| invalid(format!("failed parsing {IGNORE_FILE}: {error}")))?;
        }
        let shared_key = ui.option(&format!("sharedkey:localdir:{full_name}")).unwrap_or_default();
        let directory = local(name)
            .custom_name(&self.title("load from client"))
            .session_id(session)
            .shared_key_hint(&format!("context:{full_name}-{shared_key}"))
            .exclude(ignored);
        let late = Late::new();
        Ok(NamedTree {
            directory: Some(LateDirectory { late: late.clone(), directory }),
            ..NamedTree::plain(late.state())
        })
    }

    async fn load_input(&self, name: &str) -> Result<NamedTree, RemoteError> {
        let Self { ui, full_name, .. } = self;
        let inputs = ui.client.inputs().await?;
        let input =
            inputs.get(name).ok_or_else(|| invalid(format!("invalid input {name} for {full_name}")))?;
        let mut tree = NamedTree::plain(input_state(input)?);
        let Some(metadata) = ui.option(&format!("input-metadata:{name}")) else { return Ok(tree) };
        let config = image_config_of(metadata)
            .map_err(|error| invalid(format!("failed to parse input metadata {metadata}: {error}")))?;
        if let Some(config) = config {
            tree.state = tree.state.with_image_config(&config).map_err(malformed)?;
            let image = serde_json::from_slice(&config);
            tree.image = image.map_err(|error| {
                doing(&format!("failed to parse image config for {full_name}"), invalid(error))
            })?;
        }
        Ok(tree)
    }

    fn with_platform<T: Constrained>(&self, source: T) -> T {
        let Some(platform) = &self.request.platform else { return source };
        source.platform(platform_to(platform))
    }
}

/// The name of a store in `NAME[:TAG]@DIGEST`.
fn store_id(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    name[start..].find(':').map_or(name, |colon| &name[..start + colon])
}
