//! Writes JSON byte-identical to Go's encoding/json.
#![forbid(unsafe_code)]
