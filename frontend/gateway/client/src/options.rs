use std::collections::BTreeMap;

use buildkit_util_apicaps::CapSet;
use buildkit_util_ocispec::Platform;

/// A machine that the daemon builds with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its id, the same as in `Control.ListWorkers`.
    pub id: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Platforms that it runs, its own first.
    pub platforms: Vec<Platform>,
}

/// What a frontend is told when it starts.
#[derive(Clone, Debug)]
pub struct BuildOpts {
    /// Options of its user, such as `filename` or `build-arg:NAME`.
    pub opts: BTreeMap<String, String>,
    /// The session that serves the user's files; empty if there is none.
    pub session_id: String,
    /// Workers of the daemon, the default one first.
    pub workers: Vec<WorkerInfo>,
    /// Who runs the frontend, such as `buildkit` or `docker`.
    pub product: String,
    /// What graphs may use.
    pub llb_caps: CapSet,
    /// What the client may be asked.
    pub caps: CapSet,
}
