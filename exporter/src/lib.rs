//! Port of exporters: deliver a result.
#![forbid(unsafe_code)]

mod port;

pub use port::{
    Error, ExportContext, ExportResult, Exported, Exporter, ExporterInstance, ExporterRegistry, Finalize,
};
