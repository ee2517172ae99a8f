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

/// A platform in the words of graphs.
pub(crate) fn wire_platform(platform: &Platform) -> buildkit_client_llb::Platform {
    buildkit_client_llb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

/// A platform of a graph in the words of images.
pub(crate) fn platform_of(platform: &buildkit_client_llb::Platform) -> Platform {
    buildkit_client_llb_sourceresolver::platform_of(platform)
}
