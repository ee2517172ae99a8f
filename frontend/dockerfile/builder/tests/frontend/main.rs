//! The frontend over a bridge that builds nothing.

mod any;
mod bounds;
mod corpus;
mod dates;
mod explain;
mod fake;
mod inputs;
