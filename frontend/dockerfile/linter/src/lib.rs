//! Rules for Dockerfiles, and who is told when one is broken.
//!
//! [`RULES`] lists them; [`checks`] has a function for each, which says whether it is broken and in which words
//! (upstream `frontend/dockerfile/linter`, `dockerfile2llb/validations.go`). Who walks a file calls the checks where
//! their descriptions say and hands what they find to a [`Linter`], which knows what the file and its user want to
//! hear of.
//!
//! ```
//! use buildkit_frontend_dockerfile_linter::{Config, Linter, checks};
//! use buildkit_frontend_dockerfile_parser::Range;
//!
//! let config = Config::parse("skip=StageNameCasing;error=true")?;
//! let linter = Linter::new(config, |warning| assert_eq!(warning.rule.name, "WorkdirRelativePath"));
//! linter.report(checks::stage_name_casing("Base"), &[Range::line(1)]);
//! linter.report(checks::workdir_relative_path("src"), &[Range::line(2)]);
//! let error = linter.finish().unwrap_err();
//! assert_eq!(error.to_string(), "lint violation found for rules: WorkdirRelativePath");
//! # Ok::<(), buildkit_frontend_dockerfile_linter::ConfigError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod checks;
mod config;
mod finding;
mod linter;
mod rules;

pub use config::{Config, ConfigError, RuleSet};
pub use linter::{BrokenRules, Linter, Warning, with_place};
pub use rules::{RULES, Rule, Violation, rule};
