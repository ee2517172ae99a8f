//! Concurrent scheduler of content-addressed build graphs with a cache of keys.
#![forbid(unsafe_code)]

mod api;

pub use api::{
    CacheDep, CacheMap, CacheMapStep, CacheOptions, CandidateId, ContentDigest, Domain, Edge, Graph, Op, OpContext,
    OutputIndex, Prepare, ResultId, VertexId, VertexSpec,
};
