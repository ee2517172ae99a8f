//! The hosts of one repository, asked one after another.

use std::sync::Arc;
use std::time::Duration;

use buildkit_errdefs::{Classify as _, Kind};
use buildkit_session::SessionGroup;
use buildkit_util_reference::Reference;

use crate::Access;
use crate::error::Error;
use crate::hosts::{Host, hosts_of};
use crate::link::Link;
use crate::registries::Inner;
use crate::retry::{Budget, Retries};

/// What all uses of a repository share.
pub(crate) struct Shared {
    pub(crate) inner: Arc<Inner>,
    pub(crate) name: Reference,
    pub(crate) group: SessionGroup,
    pub(crate) access: Access,
    hosts: Vec<Host>,
    retries: Option<Retries>,
}

/// Asks one host after another.
pub(crate) struct Walk<'a> {
    shared: &'a Shared,
    /// Hosts that were asked.
    asked: usize,
    mirrors: Vec<String>,
    /// Whether a mirror answered that there is no such thing.
    is_missing: bool,
}

impl Walk<'_> {
    /// The next host, and what may be spent on it.
    ///
    /// # Errors
    /// When the last one cannot be asked.
    pub(crate) async fn next(&mut self) -> Result<(Link, Budget), Error> {
        let shared = self.shared;
        loop {
            let Some(host) = shared.hosts.get(self.asked).cloned() else { return Err(shared.no_host()) };
            self.asked += 1;
            let mut budget = shared.budget(Duration::ZERO);
            if self.asked < shared.hosts.len() {
                budget = budget.short();
            }
            match shared.inner.link(host, &shared.name, &shared.group, shared.access).await {
                Ok(link) => return Ok((link, budget)),
                Err(error) => self.failed(error)?,
            }
        }
    }

    /// The host did not do it.
    ///
    /// # Errors
    /// That, when it was the last one.
    pub(crate) fn failed(&mut self, error: Error) -> Result<(), Error> {
        if self.asked < self.shared.hosts.len() {
            tracing::info!("{error}; trying the next host");
            self.mirrors.push(error.to_string());
            self.is_missing |= error.kind() == Kind::NotFound;
            return Ok(());
        }
        if self.mirrors.is_empty() {
            return Err(error);
        }
        // An answer says more than a registry that is out of reach: whoever has only mirrors wants to know what they said
        // (containerd's `core/remotes/docker/resolver.go` prefers answers likewise).
        let is_silent = matches!(error, Error::Network { .. } | Error::Timeout { .. });
        let kind = if self.is_missing && is_silent { Kind::NotFound } else { error.kind() };
        Err(Error::All { kind, origin: Box::new(error), mirrors: self.mirrors.join("; ") })
    }
}

impl Shared {
    pub(crate) fn new(
        inner: Arc<Inner>,
        name: Reference,
        group: SessionGroup,
        access: Access,
        insecure: bool,
    ) -> Self {
        let hosts = hosts_of(name.domain(), &inner.options.registries, access, insecure);
        Self { inner, name, group, access, hosts, retries: None }
    }

    /// The same, which tells of each new try.
    pub(crate) fn telling_retries(&self, retries: Retries) -> Self {
        let Self { inner, name, group, access, hosts, .. } = self;
        let (inner, name, group, hosts) = (inner.clone(), name.clone(), group.clone(), hosts.clone());
        Self { inner, name, group, access: *access, hosts, retries: Some(retries) }
    }

    /// What may be spent on one request; `more` is added to the total time.
    pub(crate) fn budget(&self, more: Duration) -> Budget {
        Budget::new(&self.inner.options.limits, more).telling(self.retries.clone())
    }

    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { shared: self, asked: 0, mirrors: Vec::new(), is_missing: false }
    }

    /// Asks those hosts that come after one, which was asked.
    pub(crate) fn walk_after(&self, host: &Host) -> Walk<'_> {
        let at = self.hosts.iter().position(|known| known == host);
        Walk {
            shared: self,
            asked: at.map_or(self.hosts.len(), |at| at + 1),
            mirrors: Vec::new(),
            is_missing: false,
        }
    }

    fn no_host(&self) -> Error {
        Error::Config { host: self.name.domain().to_owned(), reason: "it has no host".to_owned() }
    }

    /// The repository at the registry itself.
    pub(crate) async fn origin(&self) -> Result<Link, Error> {
        let host = self.hosts.last().cloned().ok_or_else(|| self.no_host())?;
        self.inner.link(host, &self.name, &self.group, self.access).await
    }
}
