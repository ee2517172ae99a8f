//! Ops that make trees of other trees, without a process and without touching a file.

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::CreateOptions;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_solver::{CacheMapStep, Op, OpContext};

use super::definition_map;
use crate::domain::{LlbDomain, OpServices, Tree, failed};
use crate::spec::{OpSpec, TypedVertex};
use crate::{Error, Result};

fn cache_error(error: buildkit_cache::Error) -> Error {
    failed(error.kind(), error.to_string())
}

fn options(cx: &OpContext<LlbDomain>) -> CreateOptions {
    CreateOptions { description: cx.vertex().name.clone(), ..CreateOptions::default() }
}

/// Lays trees over each other.
pub(super) struct MergeOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

impl MergeOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }
}

#[async_trait]
impl Op<LlbDomain> for MergeOp {
    async fn cache_map(&self, _cx: &OpContext<LlbDomain>, _index: usize) -> Result<CacheMapStep<LlbDomain>> {
        definition_map(&self.services, &self.vertex)
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let trees: Vec<_> = inputs.into_iter().flatten().collect();
        Ok(vec![match &trees[..] {
            [] => None,
            [tree] => Some(tree.clone()),
            trees => Some(self.services.cache.merge(trees, options(cx)).await.map_err(cache_error)?),
        }])
    }
}

/// What one tree adds to another.
pub(super) struct DiffOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

impl DiffOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }
}

#[async_trait]
impl Op<LlbDomain> for DiffOp {
    async fn cache_map(&self, _cx: &OpContext<LlbDomain>, _index: usize) -> Result<CacheMapStep<LlbDomain>> {
        definition_map(&self.services, &self.vertex)
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let OpSpec::Diff(spec) = &self.vertex.op else {
            return Err(failed(Kind::Internal, "Vertex is not a diff"));
        };
        let tree = |input: Option<usize>| input.and_then(|at| inputs.get(at).cloned().flatten());
        Ok(vec![match (tree(spec.lower), tree(spec.upper)) {
            (None, upper) => upper,
            (Some(lower), Some(upper)) if lower.id() == upper.id() => None,
            (Some(lower), upper) => self
                .services
                .cache
                .diff(Some(&lower), upper.as_ref(), options(cx))
                .await
                .map_err(cache_error)?,
        }])
    }
}

/// Hands on its inputs.
pub(super) struct PassthroughOp {
    services: Arc<OpServices>,
    vertex: Arc<TypedVertex>,
}

impl PassthroughOp {
    pub(super) fn new(services: Arc<OpServices>, vertex: Arc<TypedVertex>) -> Self {
        Self { services, vertex }
    }
}

#[async_trait]
impl Op<LlbDomain> for PassthroughOp {
    async fn cache_map(&self, _cx: &OpContext<LlbDomain>, _index: usize) -> Result<CacheMapStep<LlbDomain>> {
        definition_map(&self.services, &self.vertex)
    }

    async fn exec(&self, _cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let OpSpec::Passthrough(spec) = &self.vertex.op else {
            return Err(failed(Kind::Internal, "Vertex is not a passthrough"));
        };
        Ok(spec.outputs.iter().map(|&input| inputs.get(input).cloned().flatten()).collect())
    }
}
