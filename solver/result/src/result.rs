use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Attestation;

/// The refs of a result. A ref that is `None` is an empty tree (scratch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refs<R> {
    /// One tree for everybody.
    Single(Option<R>),
    /// One tree per id; the metadata key [`PLATFORMS_KEY`](crate::PLATFORMS_KEY) says which platform
    /// each is for.
    Many(BTreeMap<String, Option<R>>),
}

/// What a frontend returns and exporters deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildResult<R> {
    /// The trees.
    pub refs: Refs<R>,
    /// More about the result, by keys that exporters know, such as `containerimage.config`.
    pub metadata: BTreeMap<String, Bytes>,
    /// Statements about the trees, by the ids of these.
    pub attestations: BTreeMap<String, Vec<Attestation<R>>>,
}

impl<R> Default for BuildResult<R> {
    fn default() -> Self {
        Self::single(None)
    }
}

impl<R> BuildResult<R> {
    /// A result of one tree without metadata.
    pub fn single(reference: Option<R>) -> Self {
        Self { refs: Refs::Single(reference), metadata: BTreeMap::new(), attestations: BTreeMap::new() }
    }

    /// The trees that there are, in order of their ids; those that attestations are in are not among them.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        let (single, many) = match &self.refs {
            Refs::Single(reference) => (reference.as_ref(), None),
            Refs::Many(refs) => (None, Some(refs.values().flatten())),
        };
        single.into_iter().chain(many.into_iter().flatten())
    }

    /// The tree for a platform: a result of one tree has it for all of them.
    pub fn find(&self, id: &str) -> Option<Option<&R>> {
        match &self.refs {
            Refs::Single(reference) => Some(reference.as_ref()),
            Refs::Many(refs) if refs.is_empty() => Some(None),
            Refs::Many(refs) => {
                let only = || refs.values().next().filter(|_| refs.len() == 1);
                refs.get(id).or_else(only).map(Option::as_ref)
            }
        }
    }

    /// Replaces every ref, also those of attestations.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn try_map<S, E>(&self, mut map: impl FnMut(&R) -> Result<S, E>) -> Result<BuildResult<S>, E> {
        let refs = match &self.refs {
            Refs::Single(reference) => Refs::Single(reference.as_ref().map(&mut map).transpose()?),
            Refs::Many(refs) => Refs::Many(
                refs.iter()
                    .map(|(id, reference)| Ok((id.clone(), reference.as_ref().map(&mut map).transpose()?)))
                    .collect::<Result<_, E>>()?,
            ),
        };
        let attestations = self
            .attestations
            .iter()
            .map(|(id, list)| {
                let list = list.iter().map(|attestation| attestation.try_map(&mut map));
                Ok((id.clone(), list.collect::<Result<_, E>>()?))
            })
            .collect::<Result<_, E>>()?;
        Ok(BuildResult { refs, metadata: self.metadata.clone(), attestations })
    }
}
