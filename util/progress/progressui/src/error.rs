use buildkit_errdefs::{Classify, Kind};

/// Why progress cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such mode.
    #[error("invalid progress mode {0}")]
    Mode(String),
    /// A terminal was asked for and there is none.
    #[error("failed to get console: provided file is not a console")]
    NotATerminal,
    /// Writing failed.
    #[error("Writing progress failed")]
    Write(#[source] std::io::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Mode(_) | Self::NotATerminal => Kind::InvalidArgument,
            Self::Write(error) => Kind::of_io(error),
        }
    }
}
