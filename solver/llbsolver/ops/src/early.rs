//! Makes the layers of an image while later steps run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::LayerOptions;
use buildkit_solver::{CacheMapStep, Edge, Op, OpContext, OutputIndex, VertexId};
use buildkit_util_appcontext::{TaskGuard, spawn};
use parking_lot::Mutex;

use crate::domain::{LlbDomain, Tree};
use crate::spec::{FileInput, OpSpec, TypedVertex};
use crate::{Loaded, LoadedVertex, Result};

/// Which results of a build become layers of an image that it exports, and in which form. The work ends with the
/// build.
#[derive(Default)]
pub struct EarlyLayers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    options: Option<LayerOptions>,
    wanted: HashSet<Edge>,
    tasks: Vec<TaskGuard<()>>,
}

impl EarlyLayers {
    /// An image is exported whose layers are wanted like this.
    pub fn enable(&self, options: LayerOptions) {
        self.state.lock().options = Some(options);
    }

    /// What is loaded is solved to be exported. Does nothing if no image is.
    pub fn want(&self, loaded: &Loaded) {
        let mut state = self.state.lock();
        if state.options.is_some() {
            let lineage = lineage(loaded);
            state.wanted.extend(lineage);
        }
    }

    fn made(&self, vertex: &VertexId, outputs: &[Tree]) {
        let mut state = self.state.lock();
        let Some(options) = state.options.clone() else { return };
        for (number, tree) in outputs.iter().enumerate() {
            let Ok(output) = OutputIndex::try_from(number) else { continue };
            let Some(tree) = tree.clone() else { continue };
            if !state.wanted.remove(&Edge { vertex: vertex.clone(), output }) {
                continue;
            }
            let options = options.clone();
            state.tasks.push(spawn(async move {
                // The export makes what is missing, and has somebody to tell.
                if let Err(error) = tree.layers(&options).await {
                    tracing::debug!(%error, "layer not made early");
                }
            }));
        }
    }
}

/// The results that the tree of a definition is laid up of: not those that steps only read.
fn lineage(loaded: &Loaded) -> HashSet<Edge> {
    let vertices: HashMap<&VertexId, &LoadedVertex> =
        loaded.vertices.iter().map(|vertex| (&vertex.id, vertex)).collect();
    let (mut found, mut pending) = (HashSet::new(), vec![loaded.root.clone()]);
    while let Some(edge) = pending.pop() {
        let Some(vertex) = vertices.get(&edge.vertex) else { continue };
        if found.insert(edge.clone()) {
            pending.extend(below(vertex, edge.output));
        }
    }
    found
}

/// The inputs that a result of a step lies on.
fn below(vertex: &LoadedVertex, output: OutputIndex) -> Vec<Edge> {
    let input = |number: usize| vertex.inputs.get(number).cloned();
    match &vertex.payload.op {
        OpSpec::Exec(spec) => {
            let mounts = spec.mounts.iter().filter(|mount| mount.output == Some(output));
            mounts.filter_map(|mount| input(mount.input?)).collect()
        }
        OpSpec::File(spec) => {
            let mut action =
                usize::try_from(output).ok().and_then(|output| spec.outputs.get(output).copied());
            // Actions only use earlier ones, so that this ends.
            while let Some(spec_of) = action.and_then(|action| spec.actions.get(action)) {
                match spec_of.input {
                    FileInput::Action(next) => action = Some(next),
                    FileInput::Input(number) => return input(number).into_iter().collect(),
                    FileInput::Scratch => return Vec::new(),
                }
            }
            Vec::new()
        }
        OpSpec::Merge(_) => vertex.inputs.clone(),
        OpSpec::Diff(spec) => spec.upper.and_then(input).into_iter().collect(),
        OpSpec::Passthrough(spec) => {
            let number = usize::try_from(output).ok().and_then(|output| spec.outputs.get(output).copied());
            number.and_then(input).into_iter().collect()
        }
        OpSpec::Source(_) | OpSpec::Build(_) => Vec::new(),
    }
}

/// An op whose results are told to the builds that want layers of them.
pub(crate) struct WithLayers {
    inner: Arc<dyn Op<LlbDomain>>,
}

impl WithLayers {
    /// Ops whose results are no layers of their own are left as they are.
    pub(crate) fn wrap(op: Arc<dyn Op<LlbDomain>>, vertex: &TypedVertex) -> Arc<dyn Op<LlbDomain>> {
        match &vertex.op {
            OpSpec::Exec(_) | OpSpec::File(_) => Arc::new(Self { inner: op }),
            _ => op,
        }
    }
}

#[async_trait]
impl Op<LlbDomain> for WithLayers {
    async fn cache_map(&self, cx: &OpContext<LlbDomain>, index: usize) -> Result<CacheMapStep<LlbDomain>> {
        self.inner.cache_map(cx, index).await
    }

    async fn acquire(&self, cx: &OpContext<LlbDomain>) -> Result<Box<dyn Send + Sync>> {
        self.inner.acquire(cx).await
    }

    async fn exec(&self, cx: &OpContext<LlbDomain>, inputs: Vec<Tree>) -> Result<Vec<Tree>> {
        let outputs = self.inner.exec(cx, inputs).await?;
        for job in cx.jobs() {
            if let Some(early) = &job.layers {
                early.made(&cx.vertex().id, &outputs);
            }
        }
        Ok(outputs)
    }
}
