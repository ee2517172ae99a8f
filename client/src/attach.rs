use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use buildkit_session::SessionServer;
use buildkit_session_filesync::{FileOutput, FsSyncProvider, FsSyncTarget, Target};
use buildkit_sourcepolicy_policysession::PolicyVerifierService;
use buildkit_util_fsutil::{DirFs, FileSystem, FilterFs, FilterOptions, MapResult};

use crate::{BuildRequest, Error, Export, ExportTarget, Result};

/// Adds the services to the session by which the daemon gets at what the build may use.
pub(crate) fn attach(session: &mut SessionServer, request: &mut BuildRequest) -> Result<()> {
    if !request.local.is_empty() {
        let dirs = request
            .local
            .iter()
            .map(|(name, path)| {
                let error = |error| Error::settings(format!("Failed to read `{name}`: {error}"));
                let dir = DirFs::open(path).map_err(error)?;
                // Who owns files here says nothing to the build.
                let options = FilterOptions {
                    map: Some(Arc::new(|_, stat| {
                        (stat.uid, stat.gid) = (0, 0);
                        MapResult::Keep
                    })),
                    ..FilterOptions::default()
                };
                let dir = FilterFs::new(Arc::new(dir), &options).map_err(error)?;
                Ok((name.clone(), Arc::new(dir) as Arc<dyn FileSystem>))
            })
            .collect::<Result<_>>()?;
        session.allow(FsSyncProvider::new(dirs).service(), FsSyncProvider::METHODS);
    }
    let targets: BTreeMap<usize, Target> =
        request.exports.iter().enumerate().filter_map(|(id, export)| Some((id, target(export)?))).collect();
    if !targets.is_empty() {
        session.allow(FsSyncTarget::new(targets), FsSyncTarget::METHODS);
    }
    if let Some(verifier) = &request.source_policy_verifier {
        session.allow(PolicyVerifierService::server(verifier.clone()), PolicyVerifierService::METHODS);
    }
    for add in request.attach.drain(..) {
        add(session);
    }
    Ok(())
}

/// Whether an export into a directory removes what the build does not have; `None` for a mode that
/// does not exist.
pub(crate) fn deletes(export: &Export) -> Option<bool> {
    let mode = export.attrs.get("mode").map(|mode| mode.trim().to_lowercase());
    match mode.as_deref().unwrap_or_default() {
        "" | "copy" => Some(false),
        "delete" => Some(true),
        _ => None,
    }
}

fn target(export: &Export) -> Option<Target> {
    match &export.target {
        ExportTarget::None | ExportTarget::Store(_) => None,
        // These are filled blob by blob.
        ExportTarget::Directory(_) if matches!(export.kind.as_str(), "oci" | "docker") => None,
        ExportTarget::Directory(path) => {
            let delete = deletes(export).unwrap_or(false);
            Some(Target::Dir { path: path.clone(), delete })
        }
        ExportTarget::File(file) => {
            let file = file.clone();
            Some(Target::File(Arc::new(move |_| Ok(Some(Box::new(Output(file.clone())))))))
        }
    }
}

/// A file that is open already.
struct Output(Arc<File>);

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileOutput for Output {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}
