//! Decides by rules whether a source may be used, and what takes its place.
//!
//! A policy is a list of rules, each with a selector. Rules that allow or deny are weighed up: of those that match
//! the last one decides, and a source that no rule matches is allowed. A rule that converts puts another identifier or
//! other attributes in the place of the source's, whereupon all policies start again with the new source, until none
//! changes it any more. Semantics and texts of errors are upstream's (`sourcepolicy`).
//!
//! ```
//! use buildkit_sourcepolicy::{Engine, Source};
//! use buildkit_sourcepolicy_pb::from_json;
//!
//! let policy = from_json(
//!     br#"{"rules": [
//!         {"action": "DENY", "selector": {"identifier": "*"}},
//!         {"action": "ALLOW", "selector": {"identifier": "docker-image://mirror.example/*"}},
//!         {"action": "CONVERT", "selector": {"identifier": "docker-image://docker.io/library/*"},
//!          "updates": {"identifier": "docker-image://mirror.example/${1}"}}
//!     ]}"#,
//! )?;
//! let engine = Engine::new([&policy])?;
//! let mut source = Source::new("docker-image://docker.io/library/alpine:latest");
//! assert!(engine.evaluate(&mut source)?);
//! assert_eq!(source.identifier, "docker-image://mirror.example/alpine:latest");
//! assert!(engine.evaluate(&mut Source::new("local://context")).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rules come from clients, so evaluating them is bounded: wildcards and regular expressions are matched in time
//! linear in the text, their number and sizes are limited, and so are what they make and how often.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod engine;
mod error;
mod pattern;
mod selector;
mod template;
mod wildcard;

pub use engine::{Engine, MAX_CHANGES, MAX_IDENTIFIER, MAX_REGEXES, MAX_RULES, Source};
pub use error::Error;
pub use pattern::MAX_REGEX;
