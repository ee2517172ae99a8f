//! What frontends of Dockerfiles take from their users: options, contexts and files.
//!
//! A frontend makes a [`DockerUi`] of the client that it is given. That reads all options
//! ([`Options`], specified in upstream's `frontend/dockerui`), and finds the files: the
//! [entry point](DockerUi::read_entrypoint), the [main context](DockerUi::main_context) and
//! [named ones](DockerUi::named_context), which may be directories of the user, repositories, archives of the
//! web, images or graphs. What it asks of the daemon for that are the graphs that the original asks for, byte
//! for byte, so that names in progress and caches agree. The result is put together by [`DockerUi::build`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod archive;
mod build;
mod client;
mod context;
mod entrypoint;
mod error;
mod input_metadata;
mod listing;
mod named;
mod options;
mod requests;

pub use build::PlatformBuild;
pub use client::DockerUi;
pub use entrypoint::{EntryPoint, IgnoreRule, IgnoreRules};
pub use error::OptionError;
pub use named::{ContextRequest, LateDirectory, NamedContext, NamedTree};
pub use options::{Attestations, BUILD_ARG_PREFIX, NoCache, Options, UlimitOption};
pub use requests::{Subrequest, answered, describe_requests};
