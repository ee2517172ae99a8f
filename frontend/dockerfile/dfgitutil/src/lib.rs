//! Git repositories as Dockerfiles and build contexts name them.
//!
//! A name is a URL that git takes, with what is wanted of the repository behind it: as a fragment
//! (`https://host/repo.git#ref:folder`) or as a query (`?ref=…&subdir=…`). What is one and what is none is told as
//! the original does (upstream `frontend/dockerfile/dfgitutil`), since it decides what a context
//! is.
//!
//! ```
//! use buildkit_frontend_dockerfile_dfgitutil::GitRef;
//!
//! let git = GitRef::parse("https://example.com/tool.git#v1:src").expect("a git reference")?;
//! assert_eq!((git.remote.as_str(), git.reference.as_str()), ("https://example.com/tool.git", "v1"));
//! assert_eq!(git.subdir, "src");
//! assert!(GitRef::parse("https://example.com/tool.tar.gz").is_none());
//! # Ok::<(), buildkit_frontend_dockerfile_dfgitutil::QueryError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod git_ref;
mod query;

pub use git_ref::{GitRef, MTime};
pub use query::QueryError;
