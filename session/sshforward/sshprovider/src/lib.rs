//! Offers the SSH agents of the client's machine to builds.
//!
//! Builds may list keys and have things signed; they cannot add or remove keys, lock the agent or
//! use its extensions. A raw socket is passed on as it is. Private keys given by file make an agent in
//! this process.
#![forbid(unsafe_code)]

mod agents;
mod filter;
mod key;
mod keyring;
mod openssh;
mod wire;

pub use agents::{Agent, Agents, Error};
