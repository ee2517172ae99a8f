//! What a frontend tells of a build without building it.
//!
//! A client asks with the option `requestid`; the answer is a result without a tree, whose metadata has the answer
//! as JSON for programs and mostly as text for people. Both are byte for byte those of the original
//! (upstream `frontend/subrequests`), so every client shows them.
//!
//! | request | answer |
//! |---|---|
//! | `frontend.subrequests.describe` | which requests there are |
//! | [`frontend.outline`](Outline) | arguments, secrets, agents and caches that a stage takes |
//! | [`frontend.targets`](TargetList) | stages that can be built |
//! | [`frontend.lint`](LintResults) | what the linter says |
//! | [`frontend.convertllb`](ConvertedGraph) | the graph that would be built |
#![forbid(unsafe_code)]

mod answer;
mod convertllb;
mod describe;
mod lint;
mod outline;
mod targets;

pub use answer::{Answer, key};
pub use convertllb::{CONVERT_LLB, ConvertedGraph, MalformedOp};
pub use describe::{DESCRIBE, Named, RequestDefinition, describe};
pub use lint::{BuildError, LINT, LintResults, LintWarning};
pub use outline::{CacheArea, OUTLINE, Outline, OutlineArg, OutlineSecret, OutlineSsh};
pub use targets::{TARGETS, Target, TargetList};
