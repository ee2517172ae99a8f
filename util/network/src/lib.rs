//! Network modes of containers and their providers.
//!
//! A [`Provider`] makes a [`Namespace`] for each container; what the runtime has to do for it is a
//! [`Join`]. Here are the two providers that need nothing: the network of the host, and none.
#![forbid(unsafe_code)]

mod networks;
mod port;
mod simple;

pub use networks::Networks;
pub use port::{Error, Join, Namespace, Provider};
pub use simple::{HostNetwork, NoNetwork};
