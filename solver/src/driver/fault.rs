//! Work that gave nothing.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt;

use super::Owner;
use crate::Domain;
use crate::error::InternalError;
use crate::graph::{Failure, NodeId};
use crate::progress::Status;

/// Why work gave nothing.
pub(crate) enum Fault<D: Domain> {
    Op(D::Error),
    Panic(String),
}

impl<D: Domain> Fault<D> {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Op(error) => error.to_string(),
            Self::Panic(text) => format!("panic: {text}"),
        }
    }
}

/// Contains a panic of an op to the work it happened in.
pub(super) fn contain<D: Domain, T>(
    work: impl Future<Output = Result<T, D::Error>> + Send + 'static,
) -> impl Future<Output = Result<T, Fault<D>>> + Send + 'static {
    AssertUnwindSafe(work).catch_unwind().map(|result| match result {
        Ok(result) => result.map_err(Fault::Op),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::Panic(text.unwrap_or_else(|| "no message".to_owned())))
        }
    })
}

impl<D: Domain> Owner<D> {
    /// The failure of a vertex, shown to those who watch.
    pub(super) fn failure(&self, node: NodeId, fault: Fault<D>, started: Option<SystemTime>) -> Failure {
        let vertex = self.vertices.get(&node);
        let mut text = None;
        let failure: Failure = match fault {
            Fault::Op(error) => {
                let error = match vertex {
                    Some(vertex) => self.domain.wrap_error(error, &vertex.spec),
                    None => error,
                };
                text = Some(self.domain.vertex_text(&error));
                Arc::new(error)
            }
            Fault::Panic(text) => {
                let name = vertex.map_or("", |vertex| vertex.spec.name.as_str());
                tracing::error!(vertex = name, panic = text, "op panicked");
                Arc::new(InternalError(format!("Vertex `{name}` panicked: {text}")))
            }
        };
        if let Some(vertex) = vertex {
            let completed = Some(self.now());
            let error = text.unwrap_or_else(|| failure.to_string());
            vertex.show(&Status { started, completed, cached: false, error });
        }
        failure
    }
}
