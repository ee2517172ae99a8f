use async_trait::async_trait;

use crate::{Error, Join, Namespace, Provider};

/// Containers share the network of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostNetwork;

/// Containers have a loopback interface and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNetwork;

struct Stateless(Join);

impl Namespace for Stateless {
    fn join(&self) -> Join {
        self.0.clone()
    }
}

#[async_trait]
impl Provider for HostNetwork {
    fn name(&self) -> &str {
        "host"
    }

    async fn namespace(&self, _hostname: &str) -> Result<Box<dyn Namespace>, Error> {
        Ok(Box::new(Stateless(Join::Host)))
    }
}

#[async_trait]
impl Provider for NoNetwork {
    fn name(&self) -> &str {
        "none"
    }

    async fn namespace(&self, _hostname: &str) -> Result<Box<dyn Namespace>, Error> {
        Ok(Box::new(Stateless(Join::New)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn joins() {
        let join = |namespace: Box<dyn Namespace>| namespace.join();
        assert_eq!(HostNetwork.namespace("").await.map(join).expect("host"), Join::Host);
        assert_eq!(NoNetwork.namespace("").await.map(join).expect("none"), Join::New);
    }
}
