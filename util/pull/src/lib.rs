//! Finds an image's manifest, configuration and layers by its name and platform.
#![forbid(unsafe_code)]
