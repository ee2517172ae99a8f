use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::ImmutableRef;
use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, Frontend, FrontendResult, LlbBridge, Reference, SolveRequest};
use buildkit_frontend_gateway_client::BuildFunction;
use buildkit_solver_pb::Definition;
use buildkit_util_appcontext as tasks;
use buildkit_util_grpcerrors::RemoteError;
use tokio::sync::Mutex;

use crate::BridgeClient;

/// A frontend of the daemon: a function that is written against the interface for frontends anywhere.
pub struct ForwardedFrontend {
    name: &'static str,
    function: Arc<dyn BuildFunction>,
}

impl ForwardedFrontend {
    /// A frontend with the name that requests call it by.
    pub fn new(name: &'static str, function: Arc<dyn BuildFunction>) -> Self {
        Self { name, function }
    }
}

#[async_trait]
impl Frontend for ForwardedFrontend {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn solve(
        &self,
        bridge: Arc<dyn LlbBridge>,
        request: SolveRequest,
    ) -> Result<FrontendResult, BridgeError> {
        let run = Run {
            name: self.name,
            function: self.function.clone(),
            bridge,
            opts: request.frontend_opt,
            inputs: request.frontend_inputs,
        };
        let client = run.client();
        let building = {
            let (function, client) = (self.function.clone(), client.clone());
            // In a task of its own a panic ends the build, and nothing else.
            tasks::spawn(async move { function.build(client).await })
        };
        let broke = |error| {
            let text = format!("Frontend `{}` ended without a result: {error}", self.name);
            Err(RemoteError::new(Kind::Internal, text))
        };
        match building.await.unwrap_or_else(broke) {
            Ok(result) => {
                let run = Arc::new(run);
                client.to_frontend(&result)?.try_map(|reference| {
                    Ok(Arc::new(Explained::new(reference.clone(), run.clone())) as Arc<dyn Reference>)
                })
            }
            Err(error) => Err(client.to_bridge_error(error.of_build())),
        }
    }
}

/// One run of a frontend. It holds no refs.
struct Run {
    name: &'static str,
    function: Arc<dyn BuildFunction>,
    bridge: Arc<dyn LlbBridge>,
    opts: BTreeMap<String, String>,
    inputs: BTreeMap<String, Definition>,
}

impl Run {
    fn client(&self) -> Arc<BridgeClient> {
        Arc::new(BridgeClient::new(self.bridge.clone(), self.opts.clone(), self.inputs.clone()))
    }

    /// What the frontend makes of an error of a tree.
    async fn explain(&self, definition: Option<Arc<Definition>>, error: BridgeError) -> BridgeError {
        let client = self.client();
        let told = client.tell(error.clone());
        let explaining = {
            let (function, client) = (self.function.clone(), client.clone());
            tasks::spawn(async move { function.explain(client, definition, told).await })
        };
        match explaining.await {
            Ok(explained) => client.to_bridge_error(explained.of_build()),
            Err(broke) => {
                tracing::warn!(frontend = self.name, error = %broke, "no more is known about an error");
                error
            }
        }
    }
}

/// A tree of a result whose errors the frontend that returned it explains.
struct Explained {
    reference: Arc<dyn Reference>,
    run: Arc<Run>,
    /// Gate: an error and what was made of it, asked for once by all who want the tree.
    known: Mutex<Option<(RemoteError, BridgeError)>>,
}

impl Explained {
    fn new(reference: Arc<dyn Reference>, run: Arc<Run>) -> Self {
        Self { reference, run, known: Mutex::new(None) }
    }
}

#[async_trait]
impl Reference for Explained {
    fn definition(&self) -> Option<Arc<Definition>> {
        self.reference.definition()
    }

    async fn result(&self) -> Result<Option<ImmutableRef>, BridgeError> {
        let error = match self.reference.result().await {
            Err(error) if error.error.kind != Kind::Cancelled => error,
            result => return result,
        };
        let mut known = self.known.lock().await;
        if let Some((_, explained)) = known.as_ref().filter(|(plain, _)| *plain == error.error) {
            return Err(explained.clone());
        }
        let plain = error.error.clone();
        let explained = self.run.explain(self.reference.definition(), error).await;
        *known = Some((plain, explained.clone()));
        Err(explained)
    }
}
