//! Single blobs of registries and layouts as build sources.
#![forbid(unsafe_code)]
