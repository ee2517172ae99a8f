//! What is asked and answered about a source that is not fetched.
//!
//! Plain types that the builders of graphs, the bridge of a build and its sources have in common (upstream
//! `client/llb/sourceresolver`).
#![forbid(unsafe_code)]

use std::time::SystemTime;

use buildkit_solver_pb::{SourceOp, attr, map};
use buildkit_sourcepolicy_pb::Policy;
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Platform;
use bytes::Bytes;

/// What is wanted to be known of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaRequest {
    /// Name of the step in the build's progress; empty for a default one.
    pub log_name: String,
    /// Platform of an image; `None` is that of the daemon.
    pub platform: Option<Platform>,
    /// Where an image may be taken from: `default`, `pull` or `local`; empty is `default`.
    pub resolve_mode: String,
    /// The configuration of an image is not needed.
    pub no_config: bool,
    /// The objects of git that a repository's reference stands for are wanted.
    pub git_objects: bool,
    /// Where the client keeps the layout that an image is in, if that is not said by the source's own
    /// attributes.
    pub layout: Option<LayoutStore>,
    /// Rules about sources, which hold beside those of the build and are asked first.
    pub source_policies: Vec<Policy>,
}

/// A content store of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutStore {
    /// The client's session; empty is any that belongs to the build.
    pub session_id: String,
    /// Name of the store; empty is that of the source.
    pub store_id: String,
}

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaResponse {
    /// Of an image.
    pub image: Option<ImageMeta>,
    /// Of a repository.
    pub git: Option<GitMeta>,
    /// Of a file of a web server.
    pub http: Option<HttpMeta>,
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMeta {
    /// What its name stands for: digest of an index or of a manifest.
    pub digest: Digest,
    /// Its configuration, as it is.
    pub config: Option<Bytes>,
}

/// What is known of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitMeta {
    /// What the reference points to: a commit, or a tag that has a message.
    pub checksum: String,
    /// The full name of the reference.
    pub reference: String,
    /// The commit, if `checksum` is a tag.
    pub commit_checksum: String,
    /// The commit as git has it, if it was asked for.
    pub commit_object: Bytes,
    /// The tag as git has it, if it was asked for.
    pub tag_object: Bytes,
}

/// What is known of a file of a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpMeta {
    /// Of its content.
    pub checksum: Digest,
    /// Its name.
    pub filename: String,
    /// When it was changed, if the server says so.
    pub last_modified: Option<SystemTime>,
}

/// A platform in the words of images.
pub fn platform_of(platform: &buildkit_solver_pb::Platform) -> Platform {
    Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        variant: platform.variant.clone(),
    }
}

/// A platform in the words of graphs: the reverse of [`platform_of`].
pub fn platform_to(platform: &Platform) -> buildkit_solver_pb::Platform {
    buildkit_solver_pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        variant: platform.variant.clone(),
    }
}

/// An image as graphs name it: of a registry, or of a layout of a client if one is given.
pub fn image_source(image: &str, layout: Option<&LayoutStore>) -> SourceOp {
    let Some(LayoutStore { session_id, store_id }) = layout else {
        return SourceOp { identifier: format!("docker-image://{image}"), attrs: Vec::new() };
    };
    let attrs = [(attr::OCI_LAYOUT_SESSION_ID, session_id), (attr::OCI_LAYOUT_STORE_ID, store_id)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.clone()));
    SourceOp { identifier: format!("oci-layout://{image}"), attrs: map::from_map(attrs) }
}
