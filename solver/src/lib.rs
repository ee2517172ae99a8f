//! Concurrent scheduler of content-addressed build graphs with a cache of keys.
#![forbid(unsafe_code)]

mod api;
mod driver;
mod error;
mod export;
#[cfg(feature = "test-util")]
pub mod graph;
#[cfg(not(feature = "test-util"))]
#[expect(dead_code, reason = "the checks are for tests")]
mod graph;
mod keys;
mod memory;
mod progress;
mod results;
mod schedule;
mod solver;
mod store;
#[cfg(feature = "test-util")]
pub mod testsuite;

pub use api::{
    CacheDep, CacheMap, CacheMapStep, CacheOptions, ContentDigest, Domain, Edge, Graph, Op, OpContext,
    OutputIndex, Prepare, ResultId, ResultStore, VertexId, VertexSpec, WeakOpContext,
};
pub use error::{Error, StoreError};
pub use export::{ExportLink, ExportMode, ExportOptions, ExportRecord, ExportResult, LayerSource, export};
pub use keys::{ExportableKey, KeyDep, KeyId, KeyNode, root_key};
pub use memory::{MemoryKeyStore, Removed};
pub use results::{MemoryResults, MissingResult};
pub use solver::{CachedResult, Job, JobId, Solver, SolverOptions};
pub use store::{
    CacheKeyStore, KeySource, Link, LinkQuery, NewKey, Parent, Record, derived_key, ensure_key, save_record,
};
