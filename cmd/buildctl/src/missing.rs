use anyhow::{Result, bail};

/// Says that a command needs a service that does not exist yet.
pub(crate) fn service(command: &str, service: &str) -> Result<()> {
    bail!("`{command}` is not implemented yet: it needs the {service}")
}
