use std::sync::Arc;

use buildkit_frontend_dockerfile_dockerfile2llb::Warn;
use buildkit_frontend_dockerfile_linter::Warning;
use buildkit_frontend_dockerui::EntryPoint;
use parking_lot::Mutex;

/// Most warnings that one build tells.
const MOST: usize = 1000;

/// What the linter finds, until the client can be told: of a file that breaks a rule in every line as much as anybody
/// reads.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    first: Vec<Warning>,
    /// Others.
    more: usize,
}

impl Warnings {
    /// Where a conversion puts them.
    pub(crate) fn sink(&self) -> Warn {
        let found = self.0.clone();
        Arc::new(move |warning| {
            let mut found = found.lock();
            if found.first.len() < MOST {
                found.first.push(warning);
            } else {
                found.more += 1;
            }
        })
    }

    /// Tells the client, which need not take them: a build does not fail because of that.
    pub(crate) async fn tell(&self, file: &EntryPoint) {
        let Found { first, more } = std::mem::take(&mut *self.0.lock());
        for warning in &first {
            let _ = file.warn(warning).await;
        }
        if more > 0 {
            let _ = file.warn_of_more(more).await;
        }
    }
}
