use std::sync::Arc;

use buildkit_frontend_dockerfile_dockerfile2llb::Warn;
use buildkit_frontend_dockerfile_linter::Warning;
use buildkit_frontend_dockerui::EntryPoint;
use parking_lot::Mutex;

/// What the linter finds, until the client can be told.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<Warning>>>);

impl Warnings {
    /// Where a conversion puts them.
    pub(crate) fn sink(&self) -> Warn {
        let found = self.0.clone();
        Arc::new(move |warning| found.lock().push(warning))
    }

    /// Tells the client, which need not take them: a build does not fail because of that.
    pub(crate) async fn tell(&self, file: &EntryPoint) {
        let warnings = std::mem::take(&mut *self.0.lock());
        for warning in &warnings {
            let _ = file.warn(warning).await;
        }
    }
}
