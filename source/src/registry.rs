use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Error, Identifier, Source, SourceInstance};

/// The sources of a worker, by scheme.
#[derive(Clone, Default)]
pub struct SourceRegistry {
    sources: BTreeMap<&'static str, Arc<dyn Source>>,
}

impl SourceRegistry {
    /// A registry without sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source under its schemes; a later one takes an earlier one's place.
    pub fn register(&mut self, source: Arc<dyn Source>) {
        for scheme in source.schemes() {
            self.sources.insert(scheme, source.clone());
        }
    }

    /// Schemes that are served.
    pub fn schemes(&self) -> impl Iterator<Item = &'static str> {
        self.sources.keys().copied()
    }

    /// Finds the source of an identifier and has it checked.
    ///
    /// # Errors
    /// [`Error::UnknownScheme`], or what the source finds wrong.
    pub fn resolve(&self, identifier: &Identifier) -> Result<Arc<dyn SourceInstance>, Error> {
        self.sources
            .get(identifier.scheme.as_str())
            .ok_or_else(|| Error::UnknownScheme(identifier.scheme.clone()))?
            .resolve(identifier)
    }

    /// An identifier, `scheme://reference`, in the form that policies know it by.
    pub fn canonical(&self, identifier: &str) -> String {
        let made = identifier.split_once("://").and_then(|(scheme, reference)| {
            let reference = self.sources.get(scheme)?.canonical(scheme, reference)?;
            Some(format!("{scheme}://{reference}"))
        });
        made.unwrap_or_else(|| identifier.to_owned())
    }
}
