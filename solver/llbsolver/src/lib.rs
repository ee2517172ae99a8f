//! Solves LLB: jobs, bridges, exports and everything that one build needs.
#![forbid(unsafe_code)]
