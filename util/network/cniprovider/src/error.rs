use std::io;
use std::path::PathBuf;

use buildkit_errdefs::{Classify, Kind};

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, a namespace or a process could not be used.
    #[error("Failed to {action}")]
    Io {
        /// What was attempted.
        action: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A configuration file says nothing that can be done.
    #[error("CNI configuration `{}`: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A plugin is not there, failed, or did not end in time.
    #[error("CNI plugin `{plugin}` failed to {command}: {reason}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// `ADD` or `DEL`.
        command: &'static str,
        /// What it says.
        reason: String,
    },
    /// Something that was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The network is being taken down.
    #[error("The network is closed")]
    Closed,
}

impl Error {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => Kind::of_io(source),
            Self::Config { .. } => Kind::FailedPrecondition,
            Self::Plugin { .. } | Self::Closed => Kind::Unavailable,
            Self::Invalid(_) => Kind::InvalidArgument,
        }
    }
}
