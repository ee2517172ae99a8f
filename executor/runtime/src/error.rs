use std::fmt;
use std::io;

use rustix::io::Errno;

/// Why a container was not started, in one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// What was tried when it happened.
    #[must_use]
    pub(crate) fn context(self, action: impl fmt::Display) -> Self {
        Self(format!("{action}: {}", self.0))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(describe(&error))
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<buildkit_util_system::Error> for Error {
    fn from(error: buildkit_util_system::Error) -> Self {
        match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(source) => Self(format!("{error}: {}", describe(source))),
            None => Self(error.to_string()),
        }
    }
}

/// The kernel's words as people know them from other runtimes: without the number, in small letters.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Says of a result what was tried.
pub(crate) trait Context<T> {
    fn context(self, action: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, action: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|error| error.into().context(action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_kernel() {
        let result: Result<(), _> = Err(Errno::NOENT);
        let error = result.context("stat /x").expect_err("an error");
        assert_eq!(error.to_string(), "stat /x: no such file or directory");
        assert_eq!(Error::from(io::Error::other("Own Words")).to_string(), "Own Words");
    }
}
