//! Opens the caches that a build is to look into.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildkit_errdefs::Kind;
use buildkit_frontend::{BridgeError, CacheImport};
use buildkit_session::SessionGroup;
use buildkit_solver_llbsolver_ops::JobImports;
use buildkit_util_cachedigest::Digest;
use buildkit_util_grpcerrors::RemoteError;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::build::BuildCore;
use crate::imports::Registration;
use crate::step::Step;

/// Caches that one build can look into, since what they have is held in memory.
const MAX_IMPORTS: usize = 64;

/// Kind and options.
type Name = (String, BTreeMap<String, String>);

/// Caches that one build looks into: each is opened once, and until the build ends.
#[derive(Default)]
pub(crate) struct BuildImports {
    wanted: Mutex<BTreeMap<Name, Arc<WantedImport>>>,
    open: JobImports,
}

/// A cache that a build is to look into.
pub(crate) struct WantedImport {
    import: CacheImport,
    opened: OnceCell<Vec<Registration>>,
}

impl BuildImports {
    /// What the caches have that are open by now.
    pub(crate) fn open(&self) -> &JobImports {
        &self.open
    }

    /// The caches of a request, which may be open already.
    pub(crate) fn wanted(&self, imports: Vec<CacheImport>) -> Vec<Arc<WantedImport>> {
        let mut wanted = self.wanted.lock();
        let imports = imports.into_iter().filter_map(|import| {
            let name = (import.kind.clone(), import.attrs.clone());
            if wanted.len() >= MAX_IMPORTS && !wanted.contains_key(&name) {
                tracing::warn!(kind = import.kind, "more than {MAX_IMPORTS} cache imports, one is left out");
                return None;
            }
            let new = || Arc::new(WantedImport { import, opened: OnceCell::new() });
            Some(wanted.entry(name).or_insert_with(new).clone())
        });
        imports.collect()
    }
}

impl WantedImport {
    /// Opens the cache, if nobody did. An import is a hint: if it fails, its vertex says why, and the build is
    /// slower and gives the same result.
    pub(crate) async fn open(&self, core: &BuildCore) {
        self.opened
            .get_or_init(|| async {
                let CacheImport { kind, attrs } = &self.import;
                let name = attrs.get("ref").filter(|name| kind == "registry" && !name.is_empty());
                let name = name.cloned().unwrap_or_else(|| kind.clone());
                let digest = Digest::sha256(format!("{}-import-{kind}-{attrs:?}", core.job.id().0));
                let step =
                    Step::new(core.job.progress(), digest, format!("importing cache manifest from {name}"));
                let progress = step.writer();
                let opened = step.run(async {
                    let options = &core.solver.shared.options;
                    let importer = options.importers.iter().find(|importer| importer.kind() == kind);
                    let importer = importer.ok_or_else(|| {
                        BridgeError::from(RemoteError::new(
                            Kind::InvalidArgument,
                            format!("unknown cache importer: {kind}"),
                        ))
                    })?;
                    let group = SessionGroup::new([core.info.session_id.clone()]);
                    let remote = importer
                        .import(attrs, &group)
                        .await
                        .map_err(|error| RemoteError::from_error(&error))?;
                    let cache = &options.solver.domain().services().cache;
                    let registered = options.imports.register(cache, &remote, &progress);
                    registered.map_err(|error| RemoteError::new(Kind::Internal, error.to_string()).into())
                });
                let opened: Vec<Registration> = opened.await.unwrap_or_else(|error: BridgeError| {
                    tracing::debug!(%error, name, "cache is not imported");
                    Vec::new()
                });
                opened.iter().for_each(|registration| core.imports.open().add(registration.keys()));
                opened
            })
            .await;
    }
}
