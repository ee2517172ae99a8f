//! Typed instructions and stages of Dockerfiles.
//!
//! Words are kept as written until they are expanded: each instruction knows which of its words are, and
//! which are not.
#![forbid(unsafe_code)]

mod copy;
mod finding;
mod instruction;
mod parts;
mod run;

pub use copy::{Add, Copy, SourceContent, SourcesAndDest};
pub use finding::{Finding, FindingKind};
pub use instruction::{
    Arg, ArgDefinition, Cmd, Entrypoint, Env, Expose, Healthcheck, Instruction, Label, Maintainer, Onbuild,
    Origin, Shell, Stage, StopSignal, User, Volume, Workdir,
};
pub use parts::{CommandLine, HealthConfig, InlineFile, KeyValue};
pub use run::{Device, Mount, MountType, NetworkMode, Run, SecurityMode, ShareMode};
