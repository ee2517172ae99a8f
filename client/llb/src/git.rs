use buildkit_solver_pb::{attr, caps};
use buildkit_util_gitutil::{GitUrl, ParseError};

use crate::constraints::{Constrained, Constraints};
use crate::source::{Attrs, is_source, source};
use crate::{State, path};

/// Secrets that are looked for when none are named.
const AUTH_HEADER_SECRET: &str = "GIT_AUTH_HEADER";
const AUTH_TOKEN_SECRET: &str = "GIT_AUTH_TOKEN";

/// A tree of a git repository; see [`git`].
#[derive(Clone, Debug)]
pub struct Git {
    url: String,
    reference: String,
    subdir: String,
    keep_git_dir: bool,
    auth_token_secret: String,
    auth_header_secret: String,
    needs_auth: bool,
    known_ssh_hosts: String,
    ssh_socket: String,
    checksum: String,
    skip_submodules: bool,
    mtime: String,
    fetch_by_commit: bool,
    bundle: Option<(String, String, String)>,
    checkout_bundle: bool,
    constraints: Constraints,
}

is_source!(Git);

/// A tree of a git repository. `reference` is a branch, a tag or a commit, or `reference:subdir`;
/// empty is the default branch. A URL without a scheme is `https`.
///
/// Host keys of `ssh` URLs are not looked up: give them with
/// [`known_ssh_hosts`](Git::known_ssh_hosts).
pub fn git(url: &str, reference: &str) -> Git {
    let (reference, subdir) = reference.split_once(':').unwrap_or((reference, ""));
    Git {
        url: url.to_owned(),
        reference: reference.to_owned(),
        subdir: path::join(["/", subdir]).trim_start_matches('/').to_owned(),
        keep_git_dir: false,
        auth_token_secret: AUTH_TOKEN_SECRET.to_owned(),
        auth_header_secret: AUTH_HEADER_SECRET.to_owned(),
        needs_auth: false,
        known_ssh_hosts: String::new(),
        ssh_socket: String::new(),
        checksum: String::new(),
        skip_submodules: false,
        mtime: String::new(),
        fetch_by_commit: false,
        bundle: None,
        checkout_bundle: false,
        constraints: Constraints::new(),
    }
}

impl Git {
    /// Branch, tag or commit.
    #[must_use]
    pub fn reference(mut self, reference: &str) -> Self {
        reference.clone_into(&mut self.reference);
        self
    }

    /// Only this directory of the repository.
    #[must_use]
    pub fn subdir(mut self, subdir: &str) -> Self {
        subdir.clone_into(&mut self.subdir);
        self
    }

    /// Keeps the `.git` directory.
    #[must_use]
    pub fn keep_git_dir(mut self) -> Self {
        self.keep_git_dir = true;
        self
    }

    /// The secret that is the token for HTTP.
    #[must_use]
    pub fn auth_token_secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.auth_token_secret);
        self.needs_auth = true;
        self
    }

    /// The secret that is the `Authorization` header for HTTP.
    #[must_use]
    pub fn auth_header_secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.auth_header_secret);
        self.needs_auth = true;
        self
    }

    /// Adds lines of a `known_hosts` file.
    #[must_use]
    pub fn known_ssh_hosts(mut self, keys: &str) -> Self {
        self.known_ssh_hosts.push_str(keys.strip_suffix('\n').unwrap_or(keys));
        self.known_ssh_hosts.push('\n');
        self
    }

    /// The client's SSH agent to use.
    #[must_use]
    pub fn ssh_socket(mut self, id: &str) -> Self {
        id.clone_into(&mut self.ssh_socket);
        self
    }

    /// The commit that the reference must have, or the beginning of its id.
    #[must_use]
    pub fn checksum(mut self, commit: &str) -> Self {
        commit.clone_into(&mut self.checksum);
        self
    }

    /// Leaves submodules out.
    #[must_use]
    pub fn skip_submodules(mut self) -> Self {
        self.skip_submodules = true;
        self
    }

    /// File times: `checkout` (the default) or `commit`.
    #[must_use]
    pub fn mtime(mut self, policy: &str) -> Self {
        policy.clone_into(&mut self.mtime);
        self
    }

    /// Fetches the commit of the checksum without asking where the reference points.
    #[must_use]
    pub fn fetch_by_commit(mut self) -> Self {
        self.fetch_by_commit = true;
        self
    }

    /// Takes the history from a git bundle at this locator (`docker-image+blob://` or
    /// `oci-layout+blob://`); session and store are of the latter and may be empty.
    #[must_use]
    pub fn bundle(mut self, locator: &str, session_id: &str, store_id: &str) -> Self {
        self.bundle = Some((locator.to_owned(), session_id.to_owned(), store_id.to_owned()));
        self
    }

    /// Makes a git bundle instead of a work tree.
    #[must_use]
    pub fn checkout_bundle(mut self) -> Self {
        self.checkout_bundle = true;
        self
    }

    /// The tree.
    pub fn state(self) -> State {
        let mut constraints = self.constraints;
        let c = &mut constraints;
        let mut attrs = Attrs::default();
        let flag = |set: bool| if set { "true" } else { "" };

        // What names no transport is taken for a host.
        let (url, remote) = match GitUrl::parse(&self.url) {
            Err(ParseError::UnknownProtocol) => {
                let url = format!("https://{}", self.url);
                let remote = GitUrl::parse(&url);
                (url, remote)
            }
            remote => (self.url, remote),
        };
        let remote = remote.ok();
        let url = remote.as_ref().map_or(url, |remote| remote.remote.clone());
        let identifier = match &remote {
            Some(remote) => {
                let mut id = format!("{}{}", remote.host, path::join(["/", remote.path.as_str()]));
                if !self.reference.is_empty() || !self.subdir.is_empty() {
                    id.push('#');
                    id.push_str(&self.reference);
                    if !self.subdir.is_empty() {
                        id.push(':');
                        id.push_str(&self.subdir);
                    }
                }
                id
            }
            // The fetch will say what is wrong with it.
            None => url.clone(),
        };
        let auth_cap = |set: bool, c: &mut Constraints| {
            if set && self.needs_auth {
                c.metadata.add_cap(caps::SOURCE_GIT_HTTP_AUTH);
            }
        };
        auth_cap(attrs.set(attr::GIT_AUTH_TOKEN_SECRET, self.auth_token_secret), c);
        auth_cap(attrs.set(attr::GIT_AUTH_HEADER_SECRET, self.auth_header_secret), c);
        if remote.is_some_and(|remote| remote.scheme == "ssh") {
            attrs.set(attr::GIT_KNOWN_SSH_HOSTS, self.known_ssh_hosts);
            c.metadata.add_cap(caps::SOURCE_GIT_KNOWN_SSH_HOSTS);
            let socket = if self.ssh_socket.is_empty() { "default".to_owned() } else { self.ssh_socket };
            attrs.set(attr::GIT_MOUNT_SSH_SOCK, socket);
            c.metadata.add_cap(caps::SOURCE_GIT_MOUNT_SSH_SOCK);
        }
        let (bundle, bundle_session, bundle_store) = self.bundle.unwrap_or_default();
        for (key, value, cap) in [
            (attr::GIT_KEEP_DIR, flag(self.keep_git_dir), caps::SOURCE_GIT_KEEP_DIR),
            (attr::GIT_FULL_URL, &url, caps::SOURCE_GIT_FULL_URL),
            (attr::GIT_CHECKSUM, &self.checksum, caps::SOURCE_GIT_CHECKSUM),
            (attr::GIT_SKIP_SUBMODULES, flag(self.skip_submodules), caps::SOURCE_GIT_SKIP_SUBMODULES),
            (attr::GIT_MTIME, &self.mtime, caps::SOURCE_GIT_MTIME),
            (attr::GIT_FETCH_BY_COMMIT, flag(self.fetch_by_commit), caps::SOURCE_GIT_FETCH_BY_COMMIT),
            (attr::GIT_BUNDLE, &bundle, caps::SOURCE_GIT_BUNDLE),
            (attr::GIT_CHECKOUT_BUNDLE, flag(self.checkout_bundle), caps::SOURCE_GIT_CHECKOUT_BUNDLE),
        ] {
            attrs.set_with_cap(c, key, value, cap);
        }
        attrs.set(attr::OCI_LAYOUT_SESSION_ID, bundle_session);
        attrs.set(attr::OCI_LAYOUT_STORE_ID, bundle_store);
        c.metadata.add_cap(caps::SOURCE_GIT);
        source(format!("git://{identifier}"), attrs.into_map(), constraints)
    }
}
