use std::error::Error;
use std::fmt;

/// What went wrong, in the vocabulary of gRPC status codes.
///
/// The numbers are the gRPC codes of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Kind {
    /// Nobody wants the value any more.
    Cancelled = 1,
    /// Not classified.
    Unknown = 2,
    /// The input is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// A deadline passed.
    DeadlineExceeded = 4,
    /// Something that was named does not exist.
    NotFound = 5,
    /// Something that was to be made exists.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A limit of space, size or number is reached.
    ResourceExhausted = 8,
    /// The system is not in a state in which this can be done.
    FailedPrecondition = 9,
    /// A conflict with other work; trying again may help.
    Aborted = 10,
    /// Past the end of something.
    OutOfRange = 11,
    /// This build of the software does not do that.
    Unimplemented = 12,
    /// An invariant of ours is broken.
    Internal = 13,
    /// A peer is gone or not there yet; trying again may help.
    Unavailable = 14,
    /// Stored data is lost or damaged.
    DataLoss = 15,
    /// The caller is not who it must be.
    Unauthenticated = 16,
}

impl Kind {
    /// The gRPC status code.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The kind of a gRPC status code; an unknown code is [`Kind::Unknown`].
    pub const fn from_code(code: i32) -> Self {
        match code {
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }

    /// Whether the same request may succeed later without a change.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Aborted | Self::DeadlineExceeded)
    }

    /// The kind of an I/O error.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Self::NotFound,
            E::AlreadyExists => Self::AlreadyExists,
            E::PermissionDenied => Self::PermissionDenied,
            E::InvalidInput | E::InvalidData => Self::InvalidArgument,
            E::TimedOut => Self::DeadlineExceeded,
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Self::ResourceExhausted,
            E::ConnectionRefused | E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe => {
                Self::Unavailable
            }
            E::Unsupported => Self::Unimplemented,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An error that says whose fault it is.
pub trait Classify: Error {
    /// The kind of this error.
    fn kind(&self) -> Kind;
}

/// An error of a lower layer whose type does not matter to the one that carries it.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in 1..=16 {
            assert_eq!(Kind::from_code(code).code(), code);
        }
        assert_eq!(Kind::from_code(99), Kind::Unknown);
    }
}
