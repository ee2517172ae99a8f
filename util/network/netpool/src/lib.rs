//! Keeps what is slow to make, such as network namespaces, ready for those who come next.
//!
//! A [`Pool`] makes items with a [`Factory`] and lends them as [`Lease`]s. An item that comes back is lent
//! again; items beyond the size that the pool is to have are let go of once nobody has wanted them for
//! five minutes.
#![forbid(unsafe_code)]

mod pool;

pub use pool::{Error, Factory, IDLE_TIME, Lease, Pool};
