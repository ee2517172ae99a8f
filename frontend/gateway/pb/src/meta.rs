//! Questions about sources and their answers, between their messages and their types.

use buildkit_client_llb_sourceresolver::{MetaRequest, MetaResponse, platform_of};
use buildkit_errdefs::{Classify, Kind};
use buildkit_solver_pb::SourceOp;

use crate as pb;

/// A question cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// It names no source.
    #[error("source is required")]
    NoSource,
    /// It is about what is not told of sources here.
    #[error("Attestations of images are not implemented by this daemon")]
    Attestations,
    /// The same of files.
    #[error("Checksums of parts of files are not implemented by this daemon")]
    PartOfFile,
}

impl Classify for MetaError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSource => Kind::InvalidArgument,
            Self::Attestations | Self::PartOfFile => Kind::Unimplemented,
        }
    }
}

/// The source that a message asks about, and what is wanted to be known of it.
///
/// # Errors
/// When there is no source, or more is asked than can be said.
pub fn from_message(message: pb::ResolveSourceMetaRequest) -> Result<(SourceOp, MetaRequest), MetaError> {
    let source = message.source.ok_or(MetaError::NoSource)?;
    let image = message.image.unwrap_or_default();
    if image.attestation_chain || !image.resolve_attestations.is_empty() {
        return Err(MetaError::Attestations);
    }
    if message.http.is_some_and(|http| http.checksum_request.is_some()) {
        return Err(MetaError::PartOfFile);
    }
    let request = MetaRequest {
        log_name: message.log_name,
        platform: message.platform.as_ref().map(platform_of),
        resolve_mode: message.resolve_mode,
        no_config: image.no_config,
        git_objects: message.git.is_some_and(|git| git.return_object),
        layout: None,
        source_policies: message.source_policies,
    };
    Ok((source, request))
}

/// The message of what is known of a source.
pub fn to_message(source: SourceOp, found: MetaResponse) -> pb::ResolveSourceMetaResponse {
    pb::ResolveSourceMetaResponse {
        source: Some(source),
        image: found.image.map(|image| pb::ResolveSourceImageResponse {
            digest: image.digest.to_string(),
            config: image.config.unwrap_or_default(),
            attestation_chain: None,
        }),
        git: found.git.map(|repository| pb::ResolveSourceGitResponse {
            checksum: repository.checksum,
            r#ref: repository.reference,
            commit_checksum: repository.commit_checksum,
            commit_object: repository.commit_object,
            tag_object: repository.tag_object,
        }),
        http: found.http.map(|file| pb::ResolveSourceHttpResponse {
            checksum: file.checksum.to_string(),
            filename: file.filename,
            last_modified: file.last_modified.map(Into::into),
            checksum_response: None,
        }),
    }
}
