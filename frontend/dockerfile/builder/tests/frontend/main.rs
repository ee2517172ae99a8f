//! The frontend over a bridge that builds nothing.

mod any;
mod bounds;
mod corpus;
mod dates;
mod fake;
mod inputs;
