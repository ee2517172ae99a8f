//! Version and revision that the daemon and the client report.
#![forbid(unsafe_code)]
