use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use buildkit_frontend_gateway_client::{BuildFunction, GatewayResult};
use buildkit_frontend_gateway_pb::{self as pb, caps, results};
use buildkit_solver_result::Refs;
use buildkit_util_grpcerrors::RemoteError;
use bytes::Bytes;

use crate::GrpcClient;
use crate::bridge::answer;

impl GrpcClient {
    /// Runs a frontend and ends the build with what it returns; gives back the metadata of its result.
    ///
    /// # Errors
    /// The frontend's own, which the build is told of, too; or that of telling.
    pub async fn run(
        self: Arc<Self>,
        function: &dyn BuildFunction,
    ) -> Result<BTreeMap<String, Bytes>, RemoteError> {
        let built = match function.build(self.clone()).await {
            Ok(result) => self.to_message(&result),
            Err(error) => Err(error),
        };
        let request = match &built {
            Ok(result) => pb::ReturnRequest { result: Some(result.clone()), error: None },
            Err(error) => pb::ReturnRequest { result: None, error: Some(error.to_rpc()) },
        };
        let returned = answer(self.bridge.clone().r#return(request).await);
        let metadata = built?.metadata;
        returned?;
        Ok(metadata)
    }

    fn to_message(&self, result: &GatewayResult) -> Result<pb::Result, RemoteError> {
        let needs = |cap| self.needs(cap);
        needs(caps::RETURN_RESULT)?;
        if matches!(&result.refs, Refs::Many(refs) if refs.len() > 1) {
            needs(caps::RETURN_MAP)?;
        }
        if !result.attestations.is_empty() {
            needs(caps::ATTESTATIONS)?;
        }
        let named = result.try_map(|reference| {
            let def = reference.definition().map(|definition| (*definition).clone());
            Ok::<_, Infallible>(pb::Ref { id: reference.id().to_owned(), def })
        });
        let Ok(named) = named;
        Ok(results::to_message(named, self.supports(caps::PROTO_REF_ARRAY)))
    }
}
