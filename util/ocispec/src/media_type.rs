//! Media types of images' parts, and what they say about compression.

/// OCI manifest of one image.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI index of several images.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI configuration of an image.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty JSON object that stands where an artifact has no configuration.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// OCI layer that is not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// OCI layer that registries must not give away, not compressed.
pub const OCI_NONDIST_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// OCI layer that registries must not give away, compressed with gzip.
pub const OCI_NONDIST_LAYER_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// OCI layer that registries must not give away, compressed with zstd.
pub const OCI_NONDIST_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// Docker's manifest of one image.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's list of images.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's oldest manifest, which cannot be built from.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// Docker's configuration of an image.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer that is not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer compressed with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's layer compressed with zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// Docker's layer that registries must not give away, not compressed.
pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
/// Docker's layer that registries must not give away, compressed with gzip.
pub const DOCKER_FOREIGN_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// An in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Cache records of buildkit.
pub const BUILDKIT_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";

/// Whether it is that of a manifest of one image.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether it is that of a list of images.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Whether it is that of an image's configuration.
pub fn is_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Whether it is that of a layer of files.
pub fn is_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// Whether it is that of a layer that registries must not give away.
pub fn is_foreign_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

/// Whether it is one of Docker's.
pub fn is_docker(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.")
}

/// The layer type with Docker's name or OCI's; other types as they are.
pub fn convert_layer(media_type: &str, oci: bool) -> &str {
    const PAIRS: [(&str, &str); 5] = [
        (DOCKER_LAYER, OCI_LAYER),
        (DOCKER_LAYER_GZIP, OCI_LAYER_GZIP),
        (DOCKER_LAYER_ZSTD, OCI_LAYER_ZSTD),
        (DOCKER_FOREIGN_LAYER, OCI_NONDIST_LAYER),
        (DOCKER_FOREIGN_LAYER_GZIP, OCI_NONDIST_LAYER_GZIP),
    ];
    let found = PAIRS.iter().find(|(docker, named)| *docker == media_type || *named == media_type);
    found.map_or(media_type, |(docker, named)| if oci { named } else { docker })
}

/// The layer type that registries may give away instead of one that they must not.
pub fn distributable(media_type: &str) -> &str {
    match media_type {
        OCI_NONDIST_LAYER => OCI_LAYER,
        OCI_NONDIST_LAYER_GZIP => OCI_LAYER_GZIP,
        OCI_NONDIST_LAYER_ZSTD => OCI_LAYER_ZSTD,
        DOCKER_FOREIGN_LAYER => DOCKER_LAYER,
        DOCKER_FOREIGN_LAYER_GZIP => DOCKER_LAYER_GZIP,
        other => other,
    }
}
