use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_exporter_containerimage_exptypes::{key, platform_id};
use buildkit_exporter_util_epoch::METADATA_KEY;
use buildkit_frontend_gateway_client::{GatewayRef, GatewayResult, RemoteError};
use buildkit_solver_result::Refs;
use buildkit_util_ocispec::{DockerImage, Platform, to_json};
use futures::future::try_join_all;
use serde::Serialize;

use crate::DockerUi;

/// What was built for one platform.
pub struct PlatformBuild {
    /// The tree; `None` is an empty one.
    pub tree: Option<Arc<dyn GatewayRef>>,
    /// The image that is to be made of it.
    pub image: DockerImage,
    /// The image that it is based on.
    pub base_image: Option<DockerImage>,
    /// The time that files and documents get at most, in seconds since 1970.
    pub epoch: Option<i64>,
}

#[derive(Serialize)]
struct Platforms {
    #[serde(rename = "Platforms")]
    platforms: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Platform")]
    platform: Platform,
}

impl DockerUi {
    /// Builds for all platforms that are wanted, side by side, and puts the result together as exporters take it.
    /// `build` is given each platform, or `None` for that of the daemon, and its place among them.
    ///
    /// # Errors
    /// The first error of `build`; the other builds are given up.
    pub async fn build<B, F>(&self, build: B) -> Result<GatewayResult, RemoteError>
    where
        B: Fn(Option<Platform>, usize) -> F,
        F: Future<Output = Result<PlatformBuild, RemoteError>>,
    {
        let targets: Vec<Option<Platform>> = match self.options.target_platforms.as_slice() {
            [] => vec![None],
            platforms => platforms.iter().cloned().map(Some).collect(),
        };
        let builds = targets.iter().cloned().enumerate().map(|(index, platform)| build(platform, index));
        let built = try_join_all(builds).await?;

        let mut metadata = BTreeMap::new();
        let (mut trees, mut platforms) = (BTreeMap::new(), Vec::new());
        let mut single = None;
        for (target, built) in targets.into_iter().zip(built) {
            let entry = export_platform(target.unwrap_or_else(Platform::native), &built.image.platform);
            let suffix = if self.options.multi_platform { format!("/{}", entry.id) } else { String::new() };
            metadata.insert(format!("{}{suffix}", key::CONFIG), to_json(&built.image).into());
            if let Some(base) = &built.base_image {
                metadata.insert(format!("{}{suffix}", key::BASE_CONFIG), to_json(base).into());
            }
            if let Some(epoch) = built.epoch {
                metadata.insert(format!("{METADATA_KEY}{suffix}"), epoch.to_string().into());
            }
            if self.options.multi_platform {
                trees.insert(entry.id.clone(), built.tree);
            } else {
                single = built.tree;
            }
            platforms.push(entry);
        }
        metadata.insert(key::PLATFORMS.to_owned(), to_json(&Platforms { platforms }).into());
        let refs = if self.options.multi_platform { Refs::Many(trees) } else { Refs::Single(single) };
        Ok(GatewayResult { refs, metadata, ..GatewayResult::default() })
    }
}

/// A platform as exporters know it. Its id is what was asked for; that of Windows takes version and features from
/// its image.
fn export_platform(wanted: Platform, image: &Platform) -> Entry {
    let mut platform = wanted.normalized();
    let id = platform_id(&platform);
    if platform.os == "windows" && image.os == platform.os {
        if platform.os_version.is_empty() {
            platform.os_version.clone_from(&image.os_version);
        }
        if platform.os_features.is_empty() {
            platform.os_features.clone_from(&image.os_features);
        }
    }
    Entry { id, platform }
}
