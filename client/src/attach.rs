use buildkit_session::SessionServer;

use crate::{BuildRequest, Result};

/// Adds the services to the session by which the daemon gets at what the build may use.
pub(crate) fn attach(session: &mut SessionServer, request: &mut BuildRequest) -> Result<()> {
    for add in request.attach.drain(..) {
        add(session);
    }
    Ok(())
}
