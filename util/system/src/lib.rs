//! System helpers: root-confined path access, xattrs, mounts and default paths.
#![forbid(unsafe_code)]
