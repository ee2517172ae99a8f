//! The LLB operations: source, exec, file, merge, diff, build and passthrough.
#![forbid(unsafe_code)]

mod domain;
mod early;
mod error;
pub mod keys;
mod load;
mod name;
mod op_json;
mod ops;
mod resources;
mod spec;
mod validate;

pub use domain::{JobContext, JobImports, LlbDomain, NestedBuilds, OpServices, Tree};
pub use early::EarlyLayers;
pub use error::{Error, Result};
pub use load::{DecodedDefinition, LoadOptions, Loaded, LoadedVertex, MAX_DEPTH, MAX_OP_SIZE, MAX_OPS};
pub use spec::{
    BuildSpec, DiffSpec, ExecSpec, FileActionSpec, FileInput, FileSpec, MountSpec, OpSpec, PassthroughSpec,
    SourceSpec, TypedVertex,
};
