//! From a Dockerfile to the graph that builds it and the configuration of its image.
//!
//! The graph is the original's, vertex for vertex (upstream `frontend/dockerfile/dockerfile2llb`), so both share
//! caches, and the image's configuration is the same JSON. What a conversion has to ask the build for, such as the
//! configurations of images, it asks its [`Surroundings`]; it runs no step and reads no file itself.
#![forbid(unsafe_code)]

mod args;
mod budget;
mod chmod;
mod convert;
mod dispatch;
mod env;
mod epoch;
mod error;
mod format;
mod hints;
mod image;
mod name;
mod options;
mod outline;
mod paths;
mod platform;
mod requests;
mod resolve;
mod stage;
mod stages;
mod surroundings;
mod trigger;
mod validate;

use std::collections::BTreeMap;

use buildkit_client_llb::{MarshalOptions, State};
use buildkit_util_ocispec::DockerImage;

pub use budget::Budget;
pub use error::{Error, Result};
pub use options::{ConvertOptions, Settings, Warn};
pub use platform::format_all;
pub use requests::{graph, lint, outline, targets, wire_ranges};
pub use surroundings::{FoundImage, LoadedContext, NamedContext, Surroundings};

/// What a Dockerfile builds.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The tree.
    pub state: State,
    /// How its graph has to be written.
    pub marshal: MarshalOptions,
    /// The configuration of the image; layers are not known yet.
    pub image: DockerImage,
    /// The image that it is built on, as it is, if it is built on one.
    pub base_image: Option<DockerImage>,
    /// The date that everything is said to be made at, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Other trees that scans of the image are to look at, by name.
    pub scanned: BTreeMap<String, State>,
    /// A step that is part of it runs even if its result is known.
    pub ignores_cache: bool,
}

/// Converts the stage that is asked for, and all that it needs.
///
/// # Errors
/// When the file is malformed, names what does not exist, or the build cannot answer what it is asked.
pub async fn to_llb(dockerfile: &[u8], options: &ConvertOptions) -> Result<Converted> {
    let finished = convert::convert(dockerfile, options).await?;
    let (converter, target) = (finished.converter, finished.target);
    let stage = &converter.stages[target];
    let mut scanned = BTreeMap::new();
    if stage.scans_context {
        scanned.insert("context".to_owned(), converter.context.state());
    }
    let mut ignores_cache = stage.ignores_cache;
    for id in converter.stages.reachable(target).into_iter().filter(|id| *id != target) {
        let other = &converter.stages[id];
        if other.scans_stage {
            scanned.insert(other.name.clone(), other.state.clone());
            ignores_cache |= other.ignores_cache;
        }
    }
    Ok(Converted {
        state: stage.state.clone(),
        marshal: converter.marshal_options(),
        image: stage.image.clone(),
        base_image: stage.base_image.as_deref().cloned(),
        epoch: converter.epoch,
        scanned,
        ignores_cache,
    })
}
