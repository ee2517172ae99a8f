use buildkit_api_services_trace::trace_service_server::TraceService;
use buildkit_api_services_trace::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::{Request, Response, Status};

/// The trace service of a daemon without a collector: says so, as clients expect.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTraces;

#[tonic::async_trait]
impl TraceService for NoTraces {
    async fn export(
        &self,
        _request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Err(Status::unavailable("trace collector not configured"))
    }
}
