//! Cached file trees: refs, records, usage and garbage collection.
//!
//! A [`CacheManager`] keeps a record for every tree. Whoever holds a [`MutableRef`] or an
//! [`ImmutableRef`] keeps its record and all that it is made of; dropping it releases it. What nobody
//! holds stays until [`CacheManager::prune`] takes it by the rules of [`GcPolicy`].
#![forbid(unsafe_code)]

mod blobs;
mod error;
mod files;
mod filter;
pub mod gc;
mod id;
mod layers;
mod manager;
mod metadata;
mod open;
mod prune;
mod record;
mod refs;
mod store;
mod unpack;
mod usage;

pub use blobs::{BlobSource, Offer, Pin};
pub use error::Error;
pub use filter::{Filter, FilterError};
pub use gc::GcPolicy;
pub use id::{RecordType, RefId};
pub use layers::{LayerBlob, LayerInfo, LayerOptions, RewriteTimes};
pub use manager::{CacheManager, CacheOptions, CreateOptions};
pub use metadata::RefMetadata;
pub use refs::{ImmutableRef, LocalMount, Mounted, MutableRef};
pub use usage::UsageRecord;
