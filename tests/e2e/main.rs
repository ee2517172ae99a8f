//! End-to-end tests: the real daemon with real containers, through its clients.
//!
//! They need root, runc, a static busybox and the programs of this workspace
//! (`cargo build --workspace --bins`). Each test has a daemon of its own. Names like `b_01_…` are those of the
//! security cases and fault experiments that a test stands for.
#![forbid(unsafe_code)]

mod bombs;
mod bridge;
mod builds;
mod changing;
mod client;
mod clients;
mod containers;
mod daemons;
mod definitions;
mod depth;
mod disk;
mod dockerfile_containers;
mod dockerfile_errors;
mod dockerfile_hostile;
mod dockerfile_secrets;
mod dockerfiles;
mod driven;
mod exports;
mod faults;
mod frontends;
mod graph;
mod helper;
mod histories;
mod hostile;
mod images;
mod imports;
mod layers;
mod layout;
mod lazy;
mod links;
mod listeners;
mod messages;
mod networks;
mod policies;
mod privileges;
mod pulled;
mod pulls;
mod registries;
mod rot;
mod sandbox;
mod sharing;
mod special;
mod stopping;
mod stuck;
mod trust;
mod usage;
mod vanishing;
mod wire;
