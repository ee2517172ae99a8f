//! Wire messages of the fsutil file transfer protocol.
#![forbid(unsafe_code)]
