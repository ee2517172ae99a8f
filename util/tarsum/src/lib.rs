//! Writes the tarsum v1 header form that content digests are made of.
#![forbid(unsafe_code)]
