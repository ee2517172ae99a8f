use buildkit_util_ocispec::{DockerConfig, DockerImage, DockerRootFs, Platform};

use crate::paths;

/// The configuration of an image without anything.
pub(crate) fn empty(platform: &Platform) -> DockerImage {
    let env = if platform.os == "windows" {
        Vec::new()
    } else {
        vec![format!("PATH={}", paths::default_path(&platform.os))]
    };
    DockerImage {
        platform: platform.clone(),
        rootfs: DockerRootFs { kind: "layers".to_owned(), diff_ids: None },
        config: DockerConfig { env, working_dir: "/".to_owned(), ..DockerConfig::default() },
        ..DockerImage::default()
    }
}
