//! The operations at work.

mod build;
mod emulator;
mod exec;
mod file;
mod process;
mod refs;
mod source;

use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache_contenthash::ChecksumOptions;
use buildkit_errdefs::{Classify as _, Kind};
use buildkit_frontend::FailedState;
use buildkit_solver::{CacheDep, CacheMap, CacheMapStep, ContentDigest, Op, OpContext};
use buildkit_solver_errdefs::Subject;
use buildkit_util_cachedigest::Digest;
use buildkit_util_system::path;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{LlbDomain, OpServices, Tree, failed};
use crate::keys::{InputKey, KeyMap, Selector, key_map};
use crate::spec::{OpSpec, TypedVertex};
use crate::{Error, Result};

/// The op of a vertex.
pub(crate) fn op_of(services: &Arc<OpServices>, vertex: &Arc<TypedVertex>) -> Arc<dyn Op<LlbDomain>> {
    let (services, vertex) = (services.clone(), vertex.clone());
    match &vertex.op {
        OpSpec::Source(_) => Arc::new(source::SourceOp::new(services, vertex)),
        OpSpec::Exec(_) => Arc::new(exec::ExecOp::new(services, vertex)),
        OpSpec::File(_) => Arc::new(file::FileOp::new(services, vertex)),
        OpSpec::Build(_) => Arc::new(build::BuildOp::new(services, vertex)),
        OpSpec::Merge(_) => Arc::new(refs::MergeOp::new(services, vertex)),
        OpSpec::Diff(_) => Arc::new(refs::DiffOp::new(services, vertex)),
        OpSpec::Passthrough(_) => Arc::new(refs::PassthroughOp::new(services, vertex)),
    }
}

/// The one cache map of an op that has inputs, or is no source.
fn definition_map(services: &Arc<OpServices>, vertex: &TypedVertex) -> Result<CacheMapStep<LlbDomain>> {
    let keys = key_map(vertex).ok_or_else(|| failed(Kind::Internal, "Source has no key of its own"))?;
    let preimage = Some(keys.preimage());
    let KeyMap { digest, inputs, .. } = keys;
    let deps = inputs.into_iter().enumerate().map(|(at, input)| dep(services, at, input)).collect();
    Ok(CacheMapStep { map: CacheMap { digest, deps, preimage }, done: true })
}

fn dep(services: &Arc<OpServices>, at: usize, input: InputKey) -> CacheDep<LlbDomain> {
    CacheDep {
        selector: input.selector,
        content: input.content.map(|selectors| {
            let key = ContentKey { services: services.clone(), input: at, selectors };
            Arc::new(key) as Arc<dyn ContentDigest<LlbDomain>>
        }),
        // Every ref that an op gets is a tree that is there.
        prepare: None,
    }
}

/// Waits for one of the steps that may run at a time.
async fn acquire(parallelism: Option<&Arc<Semaphore>>) -> Result<Box<dyn Send + Sync>> {
    Ok(match parallelism {
        None => Box::new(()),
        Some(semaphore) => {
            let permit: OwnedSemaphorePermit =
                semaphore.clone().acquire_owned().await.map_err(|_| Error::Cancelled)?;
            Box::new(permit)
        }
    })
}

/// How the error of a build says that the content of an input could not be hashed; vertices are shown
/// without it.
pub(crate) const CACHE_KEY_FAILED: &str = "failed to compute cache key: ";

/// The key of an input by the content that an op uses of it.
struct ContentKey {
    services: Arc<OpServices>,
    /// Number of the input.
    input: usize,
    selectors: Vec<Selector>,
}

impl ContentKey {
    fn failed(&self, tree: &Tree, error: &buildkit_cache_contenthash::Error) -> Error {
        // Ids of refs mean nothing to people; those who look into the state find them in it.
        let input = self.input;
        let text = format!("{CACHE_KEY_FAILED}failed to calculate checksum of ref input-{input}: {error}");
        let state = FailedState {
            inputs: vec![tree.clone()],
            subject: Some(Subject::Cache(i64::try_from(self.input).unwrap_or(i64::MAX))),
            ..FailedState::default()
        };
        failed(error.kind(), text).with_state(state)
    }
}

#[async_trait]
impl ContentDigest<LlbDomain> for ContentKey {
    async fn digest(&self, _cx: &OpContext<LlbDomain>, result: &Tree) -> Result<Option<Digest>> {
        let whole = [Selector::default()];
        let selectors = if self.selectors.is_empty() { &whole[..] } else { &self.selectors };
        let mut list = Vec::new();
        for selector in selectors {
            if !list.is_empty() {
                list.push(0);
            }
            let path = path::rooted(&selector.path);
            let options = ChecksumOptions {
                follow_links: selector.follow_links,
                wildcard: selector.wildcard,
                include: selector.include.clone(),
                exclude: selector.exclude.clone(),
                required: selector.required.clone(),
            };
            let digest = self.services.checksums.checksum(result.as_ref(), &path, &options).await;
            let digest = digest.map_err(|error| self.failed(result, &error))?;
            list.extend_from_slice(digest.as_str().as_bytes());
        }
        Ok(Some(Digest::sha256(list)))
    }
}
