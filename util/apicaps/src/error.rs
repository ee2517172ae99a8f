use buildkit_errdefs::{Classify, Kind};

use crate::Status;

/// A capability cannot be used; the texts are upstream's, which clients show as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// This side does not know the capability at all.
    #[error("unknown API capability {id}")]
    Unknown {
        /// As asked for.
        id: String,
    },
    /// The other side does not know the capability: it is too old.
    #[error(
        "requested {}feature {id} {} is not supported by build server{}, please update {product}",
        .status.prefix(), parenthesised(.name), added_in(.hint)
    )]
    Unsupported {
        /// As asked for.
        id: String,
        /// For people; may be empty.
        name: &'static str,
        /// How settled the feature is.
        status: Status,
        /// The first version of the product that has the feature.
        hint: Option<&'static str>,
        /// What the user would have to update.
        product: String,
    },
    /// The other side knows the capability and refuses it.
    #[error(
        "requested {}feature {id} {} has been disabled on the build server{}",
        .status.prefix(), parenthesised(.name), because(.reason)
    )]
    Disabled {
        /// As asked for.
        id: String,
        /// For people; may be empty.
        name: &'static str,
        /// How settled the feature is.
        status: Status,
        /// For people; may be empty.
        reason: String,
    },
}

impl CapError {
    /// The capability that was asked for.
    pub fn id(&self) -> &str {
        match self {
            Self::Unknown { id } | Self::Unsupported { id, .. } | Self::Disabled { id, .. } => id,
        }
    }
}

impl Classify for CapError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

fn parenthesised(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("({name})") }
}

fn added_in(hint: &Option<&'static str>) -> String {
    hint.map_or_else(String::new, |hint| format!(" (added in {hint})"))
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
