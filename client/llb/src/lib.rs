//! Fluent typed builder of LLB definitions.
//!
//! A [`State`] is a file system tree that does not exist yet, together with what processes run on it
//! inherit (environment, directory, user, …). States are immutable and cheap to clone; every method
//! returns a new one. [`State::marshal`] writes the graph behind a state as a [`Definition`], the
//! form that daemons take. For the same calls the encoded ops are those of the original Go builder,
//! byte for byte, so that both hit the same cache.
//!
//! ```
//! use buildkit_client_llb::{MarshalOptions, Mount, copy, image, scratch};
//!
//! let tools = image("docker.io/library/alpine").state();
//! let built = tools.run().shlex("sh -c 'echo hi > /out/greeting'").mount("/out", Mount::scratch()).done();
//! let out = built.mount("/out")?;
//! let result = scratch().file(copy(&out, "/greeting", "/"));
//! let definition = result.marshal(&MarshalOptions::new())?;
//! assert_eq!(definition.def.len(), 4);
//! # Ok::<(), buildkit_client_llb::Error>(())
//! ```
#![forbid(unsafe_code)]

mod constraints;
mod definition;
mod error;
mod exec;
mod file;
mod git;
mod graph;
mod late;
mod marshal;
mod marshal_exec;
mod marshal_file;
mod mount;
mod ops;
mod path;
mod reference;
mod shlex;
mod source;
mod sourcemap;
mod state;

pub use buildkit_solver_pb::{Definition, Platform};
pub use constraints::{Constrained, Constraints, LinuxResources};
pub use error::{Error, Result};
pub use exec::{Exec, Network, ProxyEnv, Run, Security, Ulimit};
pub use file::{
    CopyFile, CopySource, FileAction, FileActions, MakeDir, MakeFile, MakeSymlink, Owner, Remove, User, copy,
    mkdir, mkfile, rm, symlink,
};
pub use git::{Git, git};
pub use late::Late;
pub use marshal::MarshalOptions;
pub use mount::{CacheSharing, ContentCache, Device, Mount, Secret, Ssh};
pub use ops::{PassthroughInput, diff, merge, passthrough};
pub use shlex::split as split_shell_words;
pub use source::{
    Differ, Http, Image, ImageBlob, Local, OciLayout, ResolveMode, http, image, image_blob, local,
    oci_layout, oci_layout_blob,
};
pub use sourcemap::{Range, SourceMap};
pub use state::{State, scratch};
