//! Solves LLB: jobs, bridges, exports and everything that one build needs.
//!
//! [`LlbSolver::begin`] starts a [`Build`]. Whoever drives it (a client over the bridge service, a
//! frontend, or the definition of the request itself) solves through [`Build::bridge`]; what comes
//! out goes to [`Build::finish`], which makes the trees and runs the exporters. Dropping a build
//! cancels what nobody else wants. Progress is on a bus that late readers find by the build's id.
#![forbid(unsafe_code)]

mod bridge;
mod build;
mod builds;
mod caps;
mod error;
mod export;
mod exporting;
mod import;
mod importing;
mod imports;
mod inline;
mod load;
mod metadata;
mod nested;
mod policy;
mod reference;
mod results;
mod solver;
mod step;
mod verify;
mod warnings;

pub use build::Build;
pub use caps::{frontend_caps, llb_caps};
pub use export::Delivered;
pub use imports::Imports;
pub use results::CacheResults;
pub use solver::{BuildOptions, LlbSolver, LlbSolverOptions};
