//! Default addresses, roots and configuration paths.
//!
//! They are upstream's (`util/appdefaults`). A daemon that does not own the machine, in a user
//! namespace or with another user's identity, lives below the `XDG` directories.
#![forbid(unsafe_code)]

mod defaults;

pub use defaults::{
    BRIDGE_NAME, BRIDGE_SUBNET, CDI_SPEC_DIRS, CNI_BINARY_DIR, CONTAINERD_ADDRESS, Defaults,
    is_user_namespace,
};
