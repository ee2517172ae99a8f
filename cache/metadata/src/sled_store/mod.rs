mod disk;
mod open;
mod store;
mod writer;

pub use open::probe;
pub use store::{SledOptions, SledStore};
