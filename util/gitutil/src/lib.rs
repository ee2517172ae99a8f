//! Addresses of git repositories, as git and BuildKit take them.
//!
//! An address is a URL of one of git's transports, or `user@host:path`. What is wanted of the repository may stand
//! behind it, as a query or as a fragment, which are no part of the address that git gets (upstream `util/gitutil`).
//! The parts are those that Go's `net/url` finds, and the address is written as that writes it: caches tell
//! repositories apart by it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod git_url;
mod url;

pub use git_url::{GitUrl, ParseError, Query};
pub use url::url_path;
