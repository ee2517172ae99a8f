//! Images as OCI or Docker archives and layouts on the client.
//!
//! Two exporters on [`ImageWriter`](buildkit_exporter_containerimage::ImageWriter): `oci` takes images for
//! any number of platforms, `docker` one that `docker load` understands. Both send an image layout (OCI
//! image specification, image-layout.md), as one tar archive or, with `tar=false`, blob by blob into the
//! content store `export` of the client.
#![forbid(unsafe_code)]

mod archive;
mod exporter;
mod layout;

pub use exporter::{OciExporter, Variant};
