use std::error::Error;
use std::fmt::Write as _;

use buildkit_errdefs::{Classify, Kind};
use bytes::Bytes;
use prost::Message as _;

use crate::rpc;

const TYPE_PREFIX: &str = "github.com/moby/buildkit/";
const TYPE_SUFFIX: &str = "+json";

/// A typed detail of an error, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Type URL of the `Any`.
    pub type_url: String,
    /// Its bytes.
    pub value: Bytes,
}

impl Detail {
    /// A detail of upstream's type `name` (such as `errdefs.Vertex`) with its JSON.
    pub fn json(name: &str, json: impl Into<Bytes>) -> Self {
        Self { type_url: format!("{TYPE_PREFIX}{name}{TYPE_SUFFIX}"), value: json.into() }
    }

    /// Name of upstream's type, when it is one of those.
    pub fn json_name(&self) -> Option<&str> {
        self.type_url.strip_prefix(TYPE_PREFIX)?.strip_suffix(TYPE_SUFFIX)
    }
}

/// An error as it crosses a gRPC connection: kind, text and typed details.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// What went wrong.
    pub kind: Kind,
    /// One line for people.
    pub message: String,
    /// What programs match on.
    pub details: Vec<Detail>,
}

impl Classify for RemoteError {
    fn kind(&self) -> Kind {
        self.kind
    }
}

impl RemoteError {
    /// An error without details.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new() }
    }

    /// An error with the text of another and of all that caused it, in one line.
    pub fn from_error<E: Classify>(error: &E) -> Self {
        Self::new(error.kind(), chain_text(error))
    }

    /// The same as a failed build has it. Upstream's clients print other kinds than [`Kind::Unknown`] before the text,
    /// and it gives one only to what no user of a build is to blame for (`util/grpcerrors`).
    #[must_use]
    pub fn of_build(mut self) -> Self {
        use Kind::{Cancelled, DataLoss, DeadlineExceeded, Internal, ResourceExhausted, Unimplemented};
        if !matches!(
            self.kind,
            Cancelled | DataLoss | DeadlineExceeded | Internal | ResourceExhausted | Unimplemented
        ) {
            self.kind = Kind::Unknown;
        }
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    /// Decodes what a peer sent. Undecodable details are dropped, the error stays.
    pub fn from_status(status: &tonic::Status) -> Self {
        let details = rpc::Status::decode(status.details())
            .map(|decoded| {
                decoded
                    .details
                    .into_iter()
                    .map(|any| Detail { type_url: any.type_url, value: any.value.into() })
                    .collect()
            })
            .unwrap_or_default();
        Self { kind: Kind::from_code(status.code() as i32), message: status.message().to_owned(), details }
    }

    /// Decodes a `google.rpc.Status` message.
    pub fn from_rpc(status: rpc::Status) -> Self {
        let details = status
            .details
            .into_iter()
            .map(|any| Detail { type_url: any.type_url, value: any.value.into() })
            .collect();
        Self { kind: Kind::from_code(status.code), message: status.message, details }
    }

    /// The `google.rpc.Status` message.
    pub fn to_rpc(&self) -> rpc::Status {
        rpc::Status {
            code: self.kind.code(),
            message: self.message.clone(),
            details: self
                .details
                .iter()
                .map(|detail| prost_types::Any {
                    type_url: detail.type_url.clone(),
                    value: detail.value.to_vec(),
                })
                .collect(),
        }
    }
}

impl From<&RemoteError> for tonic::Status {
    fn from(error: &RemoteError) -> Self {
        let code = tonic::Code::from_i32(error.kind.code());
        if error.details.is_empty() {
            return Self::new(code, error.message.clone());
        }
        Self::with_details(code, error.message.clone(), error.to_rpc().encode_to_vec().into())
    }
}

impl From<RemoteError> for tonic::Status {
    fn from(error: RemoteError) -> Self {
        Self::from(&error)
    }
}

/// Text of an error and its causes, joined by `: `, without repeating what a text already ends with.
fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_survive_both_ways() {
        let error = RemoteError::new(Kind::NotFound, "gone")
            .with(Detail::json("errdefs.Vertex", r#"{"digest":"sha256:00"}"#))
            .with(Detail { type_url: "example.com/other".to_owned(), value: Bytes::from_static(b"\x01") });
        let status = tonic::Status::from(&error);
        assert_eq!(status.code(), tonic::Code::NotFound);
        let back = RemoteError::from_status(&status);
        assert_eq!(back, error);
        assert_eq!(back.details[0].json_name(), Some("errdefs.Vertex"));
        assert_eq!(back.details[1].json_name(), None);
        assert_eq!(RemoteError::from_rpc(error.to_rpc()), error);
    }

    #[test]
    fn damaged_details_are_no_error() {
        let status = tonic::Status::with_details(tonic::Code::Internal, "x", Bytes::from_static(b"\xff\xff"));
        assert_eq!(RemoteError::from_status(&status), RemoteError::new(Kind::Internal, "x"));
    }
}
