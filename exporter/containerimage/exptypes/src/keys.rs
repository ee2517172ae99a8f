/// Metadata keys of results, and keys of what exporters answer.
pub mod key {
    /// Configuration of the image, JSON; `/` and the id of a platform may follow.
    pub const CONFIG: &str = "containerimage.config";
    /// Configuration of the image that it is based on, JSON; `/` and the id of a platform may follow.
    pub const BASE_CONFIG: &str = "containerimage.base.config";
    /// Cache records to be put into the image, bytes; `/` and the id of a platform may follow.
    pub const INLINE_CACHE: &str = "containerimage.inlinecache";
    /// Which ref is for which platform, JSON.
    pub const PLATFORMS: &str = "refs.platforms";
    /// Answered: digest of the manifest or the index.
    pub const DIGEST: &str = "containerimage.digest";
    /// Answered: digest of the configuration of an image for one platform.
    pub const CONFIG_DIGEST: &str = "containerimage.config.digest";
    /// Answered: descriptor of the manifest or the index, JSON in base64.
    pub const DESCRIPTOR: &str = "containerimage.descriptor";
    /// From the frontend: the name for an image that is to be named `*`. Answered: the names.
    pub const NAME: &str = "image.name";
}

/// Options of image exporters.
pub mod option {
    /// Names, with commas; `*` for the one of the frontend.
    pub const NAME: &str = "name";
    /// Whether the image is pushed.
    pub const PUSH: &str = "push";
    /// Whether it is pushed without its tag.
    pub const PUSH_BY_DIGEST: &str = "push-by-digest";
    /// Whether the registry may be without TLS.
    pub const INSECURE: &str = "registry.insecure";
    /// Whether the image is unpacked, where there is an image store.
    pub const UNPACK: &str = "unpack";
    /// Whether the image is stored, where there is an image store.
    pub const STORE: &str = "store";
    /// For tests of others: whether the stored image may lack blobs.
    pub const STORE_ALLOW_INCOMPLETE: &str = "unsafe-internal-store-allow-incomplete";
    /// The image has this, `@` and its digest as a name as well.
    pub const DANGLING_PREFIX: &str = "dangling-name-prefix";
    /// Whether that is so only if it has no other name. The key lacks a letter everywhere.
    pub const DANGLING_EMPTY_ONLY: &str = "danging-name-empty-only";
    /// Whether each name is stored with `@` and the digest as well.
    pub const NAME_CANONICAL: &str = "name-canonical";
    /// Whether documents have OCI's media types and not Docker's.
    pub const OCI_TYPES: &str = "oci-mediatypes";
    /// Whether attestations are OCI artifacts.
    pub const OCI_ARTIFACT: &str = "oci-artifact";
    /// Whether attestations are added even if that makes an index of an image for one platform.
    pub const INLINE_ATTESTATIONS: &str = "attestation-inline";
    /// Whether layers that must not be given away by registries keep their media type.
    pub const PREFER_NONDIST_LAYERS: &str = "prefer-nondist-layers";
    /// How new layers are compressed.
    pub const COMPRESSION: &str = "compression";
    /// Whether layers that exist are compressed like that, too.
    pub const FORCE_COMPRESSION: &str = "force-compression";
    /// How hard it is tried.
    pub const COMPRESSION_LEVEL: &str = "compression-level";
    /// Whether times of files in new layers are those of the epoch at most.
    pub const REWRITE_TIMESTAMP: &str = "rewrite-timestamp";
    /// Whether an archive is sent, and not blobs (exporters `oci` and `docker`).
    pub const TAR: &str = "tar";
}
