//! Progress of builds: vertices, statuses, logs and the bus that carries them.
#![forbid(unsafe_code)]
