//! Port of exporters: deliver a result.
#![forbid(unsafe_code)]

mod compatibility;
mod port;

pub use compatibility::{CompatibilityError, CompatibilityVersion};
pub use port::{
    Error, ExportContext, ExportResult, Exported, ExportedImage, Exporter, ExporterInstance,
    ExporterRegistry, Finalize,
};
