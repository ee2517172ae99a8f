//! Images as OCI or Docker archives and layouts on the client.
#![forbid(unsafe_code)]
