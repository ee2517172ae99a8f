//! Configurations of images, each asked for once.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit_frontend_gateway_client::{GatewayClient, ImageConfig, MetaRequest, RemoteError};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

type Answer = Arc<OnceCell<Result<ImageConfig, RemoteError>>>;

/// Asks once for what several stages and platforms want to know at once.
#[derive(Default)]
pub(crate) struct ImageConfigs {
    answers: Mutex<HashMap<String, Answer>>,
}

impl ImageConfigs {
    pub(crate) async fn get(
        &self,
        client: &dyn GatewayClient,
        name: &str,
        request: MetaRequest,
    ) -> Result<ImageConfig, RemoteError> {
        let key = format!("{name} {request:?}");
        let answer = self.answers.lock().entry(key).or_default().clone();
        let ask = || async move { Ok(client.resolve_image_config(name, request).await?) };
        answer.get_or_init(ask).await.clone()
    }
}
