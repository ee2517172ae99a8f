//! What stages begin with: images, named contexts or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use buildkit_client_llb::{Constrained as _, image, scratch};
use buildkit_client_llb_sourceresolver::{MetaRequest, platform_to};
use buildkit_errdefs::Kind;
use buildkit_frontend_dockerfile_shell::EmptyEnv;
use buildkit_util_gotext::quoted;
use buildkit_util_ocispec::{DockerImage, Platform};
use buildkit_util_reference::Reference;
use futures::future::try_join_all;

use crate::convert::Converter;
use crate::stage::{SCRATCH, StageId};
use crate::{Error, LoadedContext, Result, image as config, name, platform, validate};

/// Images that are often meant by names that nobody knows.
const COMMON_IMAGES: [&str; 7] = ["alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"];

/// What a stage turned out to begin with.
enum Found {
    /// Nobody needs to know.
    Unasked {
        reference: Reference,
    },
    /// What the user gave in place of the stage.
    Context(LoadedContext),
    /// What the user gave in place of the image.
    ContextOfImage(LoadedContext),
    Image {
        reference: Reference,
        image: Arc<DockerImage>,
    },
}

impl Converter<'_> {
    /// Finds out what all stages begin with that the target needs, and those that turn up on the way. Returns them.
    pub(crate) async fn resolve_stages(&mut self, target: StageId) -> Result<BTreeSet<StageId>> {
        loop {
            let reachable = self.resolve_bases(target).await?;
            let mut needs_more = false;
            for id in &reachable {
                self.stages.inherit(*id, &self.options.budget)?;
                needs_more |= self.add_triggers(*id)?;
            }
            if !needs_more {
                return Ok(reachable);
            }
        }
    }

    async fn resolve_bases(&mut self, target: StageId) -> Result<BTreeSet<StageId>> {
        let reachable = self.stages.reachable(target);
        let mut wanted = Vec::new();
        for id in self.stages.ids() {
            let is_needed = self.options.all_stages || reachable.contains(&id);
            let target = &self.platforms.target;
            let stage = &mut self.stages[id];
            if stage.base.is_some() || stage.is_dispatched || stage.is_resolved {
                continue;
            }
            stage.is_resolved = is_needed;
            if stage.stage.base_name == SCRATCH && stage.named_context.is_none() {
                stage.state = scratch();
                stage.image = config::empty(target);
                stage.platform = Some(target.clone());
                stage.is_dispatched |= stage.is_unregistered;
                continue;
            }
            wanted.push((id, is_needed));
        }
        let this = &*self;
        let found = try_join_all(wanted.iter().map(|(id, is_needed)| async move {
            let ranges = &this.stages[*id].stage.origin.ranges;
            this.find_base(*id, *is_needed).await.map_err(|error| error.at(ranges))
        }));
        let found = found.await?;
        for ((id, is_needed), found) in wanted.into_iter().zip(found) {
            self.set_base(id, is_needed, found);
        }
        Ok(reachable)
    }

    /// The platform that the stage's image has to be for.
    fn wanted_platform(&self, id: StageId) -> &Platform {
        self.stages[id].platform.as_ref().unwrap_or(&self.platforms.target)
    }

    async fn find_base(&self, id: StageId, is_needed: bool) -> Result<Found> {
        let stage = &self.stages[id];
        let written = &stage.stage.base_name;
        let reference = Reference::parse(written).map_err(|error| {
            let text = format!("failed to parse stage name {}: {error}", quoted(written));
            Error::invalid(text).hint("write [registry/]name[:tag] in lower case")
        })?;
        let reference = reference.with_default_tag();
        if !is_needed {
            return Ok(Found::Unasked { reference });
        }
        if let Some(context) = &stage.named_context {
            return Ok(Found::Context(context.load().await?));
        }
        let wanted = self.wanted_platform(id).clone();
        let name = reference.to_string();
        if let Some(context) = self.named_context(&name, Some(&wanted))? {
            return Ok(Found::ContextOfImage(context.load().await?));
        }

        let prefix = if self.options.config.multi_platform {
            format!("[{} internal]", platform::format_all(&wanted))
        } else {
            "[internal]".to_owned()
        };
        let request = MetaRequest {
            log_name: format!("{prefix} load metadata for {name}"),
            platform: Some(wanted),
            resolve_mode: crate::options::resolve_mode_name(self.options.config.resolve_mode).to_owned(),
            ..MetaRequest::default()
        };
        let answer = self.options.surroundings.image_config(&name, request).await.map_err(|error| {
            let error = Error::from(error);
            let hint = image_hint(error.remote.kind);
            let error = error.context(written).suggest(written, &self.known_bases(), true);
            hint.into_iter().fold(error, Error::hint)
        })?;
        let reference = if answer.reference == name {
            reference
        } else {
            Reference::parse(&answer.reference).map_err(|error| {
                Error::invalid(format!("failed to parse ref {}: {error}", quoted(&answer.reference)))
            })?
        };
        // As it is, and as the stage changes it.
        self.options.budget.take(2 * answer.config.len())?;
        let image = serde_json::from_slice(&answer.config)
            .map_err(|error| Error::invalid(format!("failed to parse image config: {error}")))?;
        Ok(Found::Image { reference: reference.with_digest(answer.digest), image: Arc::new(image) })
    }

    fn known_bases(&self) -> Vec<String> {
        let common = COMMON_IMAGES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}:latest")]);
        self.stages.names().into_iter().chain(common).collect()
    }

    fn set_base(&mut self, id: StageId, is_needed: bool, found: Found) {
        let mut wanted = self.wanted_platform(id).clone();
        let stage = &mut self.stages[id];
        stage.is_dispatched |= stage.is_unregistered;
        let reference = match found {
            Found::Context(LoadedContext { state, image, set_used }) => {
                self.late_contexts.extend(set_used.map(|set_used| (id, set_used)));
                stage.is_dispatched = true;
                stage.state = state;
                if let Some(mut image) = image {
                    image.created = None;
                    if !image.platform.architecture.is_empty() && !image.platform.os.is_empty() {
                        stage.platform = Some(image.platform.clone());
                    }
                    stage.image = image;
                }
                return;
            }
            Found::ContextOfImage(LoadedContext { state, image, set_used }) => {
                self.late_contexts.extend(set_used.map(|set_used| (id, set_used)));
                let image = image.unwrap_or_else(|| config::empty(&wanted));
                stage.state = state.with_platform(platform_to(&wanted));
                stage.base_image = Some(Arc::new(image.clone()));
                stage.image = DockerImage { created: None, ..image };
                stage.platform = Some(wanted);
                return;
            }
            Found::Unasked { reference } => reference,
            Found::Image { reference, image } => {
                stage.image = DockerImage { created: None, ..(*image).clone() };
                stage.base_image = Some(image);
                if stage.platform.is_none() && self.platforms.is_implicit {
                    wanted = self.platforms.detect(&stage.image, &wanted);
                }
                reference
            }
        };
        let written = std::mem::replace(&mut stage.stage.base_name, reference.to_string());
        let has_layers = stage.image.rootfs.diff_ids.as_ref().is_some_and(|ids| !ids.is_empty())
            || stage.image.history.iter().any(|entry| !entry.empty_layer);
        if is_needed && !has_layers {
            stage.state = scratch();
        } else {
            let text = format!("FROM {reference}");
            let with_platform = self.options.config.multi_platform;
            let title = name::step(stage, &text, with_platform, Some(&wanted), &EmptyEnv);
            let source = name::command(image(&stage.stage.base_name), &stage.stage.origin.code)
                .platform(platform_to(&wanted))
                .custom_name(&title)
                .location(&self.options.source_map, name::llb_ranges(&stage.stage.origin.ranges));
            stage.state = source.resolve_mode(self.options.config.resolve_mode).state();
            if is_needed {
                let ranges = &stage.stage.origin.ranges;
                validate::base_platform(&self.linter, &written, &wanted, &stage.image.platform, ranges);
            }
        }
        stage.platform = Some(wanted);
    }
}

/// What to do about an image whose configuration is not to be had.
fn image_hint(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::NotFound => Some("check name and tag, and --platform if it is given"),
        Kind::Unauthenticated | Kind::PermissionDenied => Some("check the name, and log in to its registry"),
        Kind::Unavailable | Kind::DeadlineExceeded => {
            Some("the registry cannot be reached: check its name and the network")
        }
        _ => None,
    }
}
