//! Typed instructions and stages of Dockerfiles.
//!
//! Words are kept as written until they are expanded: each instruction knows which of its words are, and
//! which are not.
#![forbid(unsafe_code)]

mod commands;
mod copy;
mod device;
mod error;
mod expand;
mod fields;
mod files;
mod finding;
mod flags;
mod health;
mod instruction;
mod mount;
mod parse;
mod parts;
mod request;
mod run;
mod stage;

pub use copy::{Add, Copy, SourceContent, SourcesAndDest};
pub use error::Error;
pub use expand::Expander;
pub use finding::{Finding, FindingKind};
pub use instruction::{
    Arg, ArgDefinition, Cmd, Entrypoint, Env, Expose, Healthcheck, Instruction, Label, Maintainer, Onbuild,
    Origin, Shell, Stage, StopSignal, User, Volume, Workdir,
};
pub use parse::{Parsed, parse, parse_instruction, parse_with};
pub use parts::{CommandLine, HealthConfig, InlineFile, KeyValue};
pub use run::{Device, Mount, MountType, NetworkMode, Run, SecurityMode, ShareMode};
