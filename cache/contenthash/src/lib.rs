//! Content checksums of paths in cached trees.
//!
//! A [`Tree`] knows the digest of each path of a file tree: of a file from its attributes (a tarsum
//! header) and content, of a directory from the names and digests in it. It looks at files only when
//! a digest is asked for and not known, hashes them in parallel, and can be fed while files arrive
//! ([`TreeUpdater`]). The digests are those of upstream's `cache/contenthash`: they are the content
//! keys of shared caches.
//!
//! Two records stand for a directory: its header (attributes) and its content, which includes the
//! header. Modification times do not count.
#![forbid(unsafe_code)]

mod error;
mod file;
mod key;
mod query;
mod record;
mod refs;
mod scan;
mod tree;
mod update;

pub use error::{Error, Result};
pub use file::{FileHash, hash_file};
pub use query::ChecksumOptions;
pub use refs::ContentHasher;
pub use tree::Tree;
pub use update::TreeUpdater;
