use std::sync::Arc;

use async_trait::async_trait;
use buildkit_frontend_gateway_client::{GatewayRef, ReadDir, ReadFile, Stat};
use buildkit_frontend_gateway_pb::{self as pb, caps};
use buildkit_solver_pb::Definition;
use buildkit_util_apicaps::CapSet;
use buildkit_util_grpcerrors::RemoteError;
use bytes::Bytes;

use crate::bridge::{Bridge, answer};

/// A ref of the other side.
pub(crate) struct RemoteRef {
    pub(crate) id: String,
    pub(crate) definition: Option<Arc<Definition>>,
    pub(crate) bridge: Bridge,
    pub(crate) caps: CapSet,
}

impl RemoteRef {
    fn needs(&self, cap: &str) -> Result<(), RemoteError> {
        self.caps.supports(cap).map_err(|error| RemoteError::from_error(&error))
    }
}

#[async_trait]
impl GatewayRef for RemoteRef {
    fn id(&self) -> &str {
        &self.id
    }

    fn definition(&self) -> Option<Arc<Definition>> {
        self.definition.clone()
    }

    async fn evaluate(&self) -> Result<(), RemoteError> {
        if self.caps.supports(caps::GATEWAY_EVALUATE).is_err() {
            // Whoever looks into a tree has it made.
            return self.stat_file(".").await.map(drop);
        }
        let request = pb::EvaluateRequest { r#ref: self.id.clone() };
        answer(self.bridge.clone().evaluate(request).await).map(drop)
    }

    async fn read_file(&self, file: ReadFile) -> Result<Bytes, RemoteError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let request = pb::ReadFileRequest {
            r#ref: self.id.clone(),
            file_path: file.path,
            range: file
                .range
                .map(|range| pb::FileRange { offset: number(range.offset), length: number(range.length) }),
            ..pb::ReadFileRequest::default()
        };
        Ok(answer(self.bridge.clone().read_file(request).await)?.data)
    }

    async fn read_dir(&self, directory: ReadDir) -> Result<Vec<Stat>, RemoteError> {
        self.needs(caps::READ_DIR)?;
        let request = pb::ReadDirRequest {
            r#ref: self.id.clone(),
            dir_path: directory.path,
            include_pattern: directory.include_pattern,
            ..pb::ReadDirRequest::default()
        };
        Ok(answer(self.bridge.clone().read_dir(request).await)?.entries)
    }

    async fn stat_file(&self, path: &str) -> Result<Stat, RemoteError> {
        self.needs(caps::STAT_FILE)?;
        let request = pb::StatFileRequest {
            r#ref: self.id.clone(),
            path: path.to_owned(),
            ..pb::StatFileRequest::default()
        };
        Ok(answer(self.bridge.clone().stat_file(request).await)?.stat.unwrap_or_default())
    }
}
