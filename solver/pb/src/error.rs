use buildkit_errdefs::{Classify, Kind};

/// LLB that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not an encoding of the message.
    #[error("Decoding LLB message `{message}` failed: {reason}")]
    Malformed {
        /// Protobuf name of the innermost message.
        message: &'static str,
        /// What is wrong with its bytes.
        reason: &'static str,
    },
    /// The bytes are well-formed and do not fit the Rust types.
    #[error("Decoding an LLB op failed: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The JSON is not that of a message.
    #[error("Decoding the JSON of LLB message `{message}` failed: {reason}")]
    Json {
        /// Protobuf name of the outermost message.
        message: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Digests were given for another number of inputs than the op has.
    #[error("Rewriting an LLB op with {inputs} inputs failed: {given} digests are given")]
    InputCount {
        /// What the op has.
        inputs: usize,
        /// What was given.
        given: usize,
    },
    /// Source attributes were given for an op that is not a source.
    #[error("Rewriting the source of an LLB op failed: It is not a source op")]
    NotSource,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Malformed { .. } | Self::Decode(_) | Self::Json { .. } => Kind::InvalidArgument,
            Self::InputCount { .. } | Self::NotSource => Kind::Internal,
        }
    }
}
