use std::collections::BTreeMap;

use buildkit_solver_pb::{attr, caps};
use buildkit_util_cachedigest::Digest;

use crate::constraints::{Constrained, Constraints};
use crate::graph::{Kind, Node, Output};
use crate::reference::Reference;
use crate::{Error, State};

/// Makes the state of a source op.
pub(crate) fn source(identifier: String, attrs: BTreeMap<String, String>, constraints: Constraints) -> State {
    let kind = Kind::Source { identifier, attrs };
    State::from_output(Some(Output::first(Node::new(kind, Vec::new(), constraints))))
}

/// Attributes of a source op and the capabilities that they need.
#[derive(Default)]
pub(crate) struct Attrs {
    attrs: BTreeMap<String, String>,
}

impl Attrs {
    /// Sets an attribute unless its value is empty; says whether it did.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) -> bool {
        let value = value.into();
        if value.is_empty() {
            return false;
        }
        self.attrs.insert(key.to_owned(), value);
        true
    }

    /// As [`set`](Self::set); a set attribute needs `cap`.
    pub(crate) fn set_with_cap(
        &mut self,
        constraints: &mut Constraints,
        key: &str,
        value: impl Into<String>,
        cap: &str,
    ) {
        if self.set(key, value) {
            constraints.metadata.add_cap(cap);
        }
    }

    pub(crate) fn into_map(self) -> BTreeMap<String, String> {
        self.attrs
    }
}

/// A list as Go's JSON encoder writes it, which the daemon reads and the op's digest covers.
fn json_list(list: &[String]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for c in serde_json::Value::from(list.to_vec()).to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            other => out.push(other),
        }
    }
    out
}

fn strings<S: Into<String>>(list: impl IntoIterator<Item = S>) -> Vec<String> {
    list.into_iter().map(Into::into).collect()
}

macro_rules! is_source {
    ($type:ty) => {
        impl Constrained for $type {
            fn constraints_mut(&mut self) -> &mut Constraints {
                &mut self.constraints
            }
        }

        impl From<$type> for State {
            fn from(source: $type) -> Self {
                source.state()
            }
        }
    };
}
pub(crate) use is_source;

macro_rules! file_info_options {
    () => {
        /// Name of the file.
        #[must_use]
        pub fn filename(mut self, name: &str) -> Self {
            name.clone_into(&mut self.file.filename);
            self
        }

        /// Permission bits of the file.
        #[must_use]
        pub fn mode(mut self, mode: u32) -> Self {
            self.file.mode = mode & 0o777;
            self
        }

        /// Owner of the file.
        #[must_use]
        pub fn owner(mut self, uid: u32, gid: u32) -> Self {
            (self.file.uid, self.file.gid) = (uid, gid);
            self
        }
    };
}
// --- images

/// When an image that is there already is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveMode {
    /// The daemon decides.
    Default,
    /// Always.
    ForcePull,
    /// Never, if it can be helped.
    PreferLocal,
}

/// An image of a registry; see [`image`].
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    resolve_mode: ResolveMode,
    internal: bool,
    layer_limit: Option<i64>,
    checksum: Option<Digest>,
    constraints: Constraints,
}

is_source!(Image);

/// An image of a registry. A name without a registry is Docker Hub's, without tag `latest`.
pub fn image(reference: &str) -> Image {
    Image {
        reference: reference.to_owned(),
        resolve_mode: ResolveMode::Default,
        internal: false,
        layer_limit: None,
        checksum: None,
        constraints: Constraints::new(),
    }
}

impl Image {
    /// When an image that is there already is looked up again.
    #[must_use]
    pub fn resolve_mode(mut self, mode: ResolveMode) -> Self {
        self.resolve_mode = mode;
        self
    }

    /// Counts the image as the build's own tool in disk usage.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Takes only the first layers.
    #[must_use]
    pub fn layer_limit(mut self, layers: i64) -> Self {
        self.layer_limit = Some(layers);
        self
    }

    /// The digest that the image must have.
    #[must_use]
    pub fn checksum(mut self, digest: Digest) -> Self {
        self.checksum = Some(digest);
        self
    }

    /// The image's tree.
    pub fn state(self) -> State {
        let reference = match Reference::parse(&self.reference) {
            Ok(reference) => reference.with_default_tag(),
            Err(error) => return State::invalid(error),
        };
        let mut constraints = self.constraints;
        let metadata = &mut constraints.metadata;
        metadata.add_cap(caps::SOURCE_IMAGE);
        let mut attrs = Attrs::default();
        match self.resolve_mode {
            ResolveMode::Default => {}
            ResolveMode::ForcePull => {
                attrs.set(attr::IMAGE_RESOLVE_MODE, attr::IMAGE_RESOLVE_MODE_FORCE_PULL);
                metadata.add_cap(caps::SOURCE_IMAGE_RESOLVE_MODE);
            }
            ResolveMode::PreferLocal => {
                attrs.set(attr::IMAGE_RESOLVE_MODE, attr::IMAGE_RESOLVE_MODE_PREFER_LOCAL);
            }
        }
        if self.internal {
            attrs.set(attr::IMAGE_RECORD_TYPE, "internal");
        }
        if let Some(layers) = self.layer_limit {
            attrs.set(attr::IMAGE_LAYER_LIMIT, layers.to_string());
            metadata.add_cap(caps::SOURCE_IMAGE_LAYER_LIMIT);
        }
        if let Some(digest) = self.checksum {
            attrs.set(attr::IMAGE_CHECKSUM, digest.as_str());
            metadata.add_cap(caps::SOURCE_IMAGE_CHECKSUM);
        }
        source(format!("docker-image://{reference}"), attrs.into_map(), constraints)
    }
}

/// One blob of a registry or an OCI layout as a file; see [`image_blob`].
#[derive(Clone, Debug)]
pub struct ImageBlob {
    scheme: &'static str,
    reference: String,
    file: FileInfo,
    session_id: String,
    store_id: String,
    constraints: Constraints,
}

is_source!(ImageBlob);

/// A blob of a registry as a file; the reference must have a digest and no tag.
pub fn image_blob(reference: &str) -> ImageBlob {
    ImageBlob {
        scheme: "docker-image+blob",
        reference: reference.to_owned(),
        file: FileInfo::default(),
        session_id: String::new(),
        store_id: String::new(),
        constraints: Constraints::new(),
    }
}

/// A blob of an OCI layout of the client as a file; the reference must have a digest and no tag.
pub fn oci_layout_blob(reference: &str) -> ImageBlob {
    ImageBlob { scheme: "oci-layout+blob", ..image_blob(reference) }
}

impl ImageBlob {
    /// The client's session and store that have the layout.
    #[must_use]
    pub fn store(mut self, session_id: &str, store_id: &str) -> Self {
        session_id.clone_into(&mut self.session_id);
        store_id.clone_into(&mut self.store_id);
        self
    }

    file_info_options!();

    /// A tree with the file.
    pub fn state(self) -> State {
        let error = |reason| State::invalid(Error::Reference { reference: self.reference.clone(), reason });
        let reference = match Reference::parse(&self.reference) {
            Ok(reference) => reference,
            Err(error) => return State::invalid(error),
        };
        if reference.tag.is_some() {
            return error("a blob's reference must not have a tag");
        }
        if reference.digest.is_none() {
            return error("a blob's reference must have a digest");
        }
        let mut constraints = self.constraints;
        let mut attrs = Attrs::default();
        self.file.add_to(&mut attrs, None);
        attrs.set(attr::OCI_LAYOUT_SESSION_ID, self.session_id);
        attrs.set(attr::OCI_LAYOUT_STORE_ID, self.store_id);
        constraints.metadata.add_cap(caps::SOURCE_IMAGE_BLOB);
        let identifier = format!("{}://{}", self.scheme, reference.with_default_tag());
        source(identifier, attrs.into_map(), constraints)
    }
}

/// An image in an OCI layout of the client; see [`oci_layout`].
#[derive(Clone, Debug)]
pub struct OciLayout {
    reference: String,
    session_id: String,
    store_id: String,
    layer_limit: Option<i64>,
    constraints: Constraints,
}

is_source!(OciLayout);

/// An image in an OCI layout of the client, as `name@digest`.
pub fn oci_layout(reference: &str) -> OciLayout {
    OciLayout {
        reference: reference.to_owned(),
        session_id: String::new(),
        store_id: String::new(),
        layer_limit: None,
        constraints: Constraints::new(),
    }
}

impl OciLayout {
    /// The client's session and store that have the layout.
    #[must_use]
    pub fn store(mut self, session_id: &str, store_id: &str) -> Self {
        session_id.clone_into(&mut self.session_id);
        store_id.clone_into(&mut self.store_id);
        self
    }

    /// Takes only the first layers.
    #[must_use]
    pub fn layer_limit(mut self, layers: i64) -> Self {
        self.layer_limit = Some(layers);
        self
    }

    /// The image's tree.
    pub fn state(self) -> State {
        let mut constraints = self.constraints;
        let mut attrs = Attrs::default();
        attrs.set(attr::OCI_LAYOUT_SESSION_ID, self.session_id);
        attrs.set(attr::OCI_LAYOUT_STORE_ID, self.store_id);
        if let Some(layers) = self.layer_limit {
            attrs.set(attr::OCI_LAYOUT_LAYER_LIMIT, layers.to_string());
        }
        constraints.metadata.add_cap(caps::SOURCE_OCI_LAYOUT);
        source(format!("oci-layout://{}", self.reference), attrs.into_map(), constraints)
    }
}

// --- directories of the client

/// How it is found out which files the daemon has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differ {
    /// It is not: everything is sent.
    None,
    /// By size, time, mode, owner, device and link target.
    Metadata,
}

/// A directory of the client; see [`local`].
#[derive(Clone, Debug)]
pub struct Local {
    name: String,
    session_id: String,
    include: Vec<String>,
    exclude: Vec<String>,
    follow: Vec<String>,
    shared_key_hint: String,
    differ: Option<(Differ, bool)>,
    metadata_only: Option<Vec<String>>,
    constraints: Constraints,
}

is_source!(Local);

/// A directory that the client offers under this name.
pub fn local(name: &str) -> Local {
    Local {
        name: name.to_owned(),
        session_id: String::new(),
        include: Vec::new(),
        exclude: Vec::new(),
        follow: Vec::new(),
        shared_key_hint: String::new(),
        differ: None,
        metadata_only: None,
        constraints: Constraints::new(),
    }
}

impl Local {
    /// The session that has the directory; by default the build's own.
    #[must_use]
    pub fn session_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.session_id);
        self
    }

    /// Only paths that match one of the patterns.
    #[must_use]
    pub fn include<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.include = strings(patterns);
        self
    }

    /// No path that matches one of the patterns.
    #[must_use]
    pub fn exclude<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.exclude = strings(patterns);
        self
    }

    /// Only these paths and what symbolic links in them lead to.
    #[must_use]
    pub fn follow<S: Into<String>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        self.follow = strings(paths);
        self
    }

    /// Directories with the same hint replace each other in the daemon, so that only differences are
    /// sent.
    #[must_use]
    pub fn shared_key_hint(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.shared_key_hint);
        self
    }

    /// How it is found out what must be sent, and whether a daemon that cannot do so refuses.
    #[must_use]
    pub fn differ(mut self, differ: Differ, required: bool) -> Self {
        self.differ = Some((differ, required));
        self
    }

    /// Sends what is known about files, and the content only of those that match a pattern.
    #[must_use]
    pub fn metadata_only<S: Into<String>>(mut self, except: impl IntoIterator<Item = S>) -> Self {
        self.metadata_only = Some(strings(except));
        self
    }

    /// The directory's tree.
    pub fn state(self) -> State {
        let mut constraints = self.constraints;
        let c = &mut constraints;
        let mut attrs = Attrs::default();
        for (key, value, cap) in [
            (attr::LOCAL_SESSION_ID, self.session_id, caps::SOURCE_LOCAL_SESSION_ID),
            (attr::INCLUDE_PATTERNS, json_list(&self.include), caps::SOURCE_LOCAL_INCLUDE_PATTERNS),
            (attr::FOLLOW_PATHS, json_list(&self.follow), caps::SOURCE_LOCAL_FOLLOW_PATHS),
            (attr::EXCLUDE_PATTERNS, json_list(&self.exclude), caps::SOURCE_LOCAL_EXCLUDE_PATTERNS),
            (attr::SHARED_KEY_HINT, self.shared_key_hint, caps::SOURCE_LOCAL_SHARED_KEY_HINT),
        ] {
            attrs.set_with_cap(c, key, value, cap);
        }
        if let Some((differ, required)) = self.differ {
            let name = match differ {
                Differ::None => attr::LOCAL_DIFFER_NONE,
                Differ::Metadata => attr::LOCAL_DIFFER_METADATA,
            };
            attrs.set(attr::LOCAL_DIFFER, name);
            if required {
                c.metadata.add_cap(caps::SOURCE_LOCAL_DIFFER);
            }
        }
        if let Some(except) = self.metadata_only {
            attrs.set(attr::METADATA_TRANSFER, "true");
            attrs.set(attr::METADATA_TRANSFER_EXCLUDE, json_list(&except));
            c.metadata.add_cap(caps::SOURCE_METADATA_TRANSFER);
        }
        c.metadata.add_cap(caps::SOURCE_LOCAL);
        source(format!("local://{}", self.name), attrs.into_map(), constraints)
    }
}

// --- files of web servers

/// Name, permission bits and owner of a file that a source makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileInfo {
    pub(crate) filename: String,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl FileInfo {
    /// Blobs need no capabilities for these, downloads do.
    fn add_to(self, attrs: &mut Attrs, caps_of: Option<&mut Constraints>) {
        let mode = if self.mode == 0 { String::new() } else { format!("0{:o}", self.mode) };
        let number = |id: u32| if id == 0 { String::new() } else { id.to_string() };
        attrs.set(attr::HTTP_FILENAME, self.filename);
        let has_mode = attrs.set(attr::HTTP_PERM, mode);
        let has_uid = attrs.set(attr::HTTP_UID, number(self.uid));
        let has_gid = attrs.set(attr::HTTP_GID, number(self.gid));
        if let Some(constraints) = caps_of {
            if has_mode {
                constraints.metadata.add_cap(caps::SOURCE_HTTP_PERM);
            }
            if has_uid || has_gid {
                constraints.metadata.add_cap(caps::SOURCE_HTTP_UID_GID);
            }
        }
    }
}

/// A file of a web server; see [`http`].
#[derive(Clone, Debug)]
pub struct Http {
    url: String,
    checksum: Option<Digest>,
    file: FileInfo,
    auth_header_secret: String,
    header: Option<(String, String)>,
    signature: Option<(String, String)>,
    constraints: Constraints,
}

is_source!(Http);

/// A file of a web server.
pub fn http(url: &str) -> Http {
    Http {
        url: url.to_owned(),
        checksum: None,
        file: FileInfo::default(),
        auth_header_secret: String::new(),
        header: None,
        signature: None,
        constraints: Constraints::new(),
    }
}

impl Http {
    /// The digest that the content must have.
    #[must_use]
    pub fn checksum(mut self, digest: Digest) -> Self {
        self.checksum = Some(digest);
        self
    }

    /// The secret whose value is sent as the `Authorization` header.
    #[must_use]
    pub fn auth_header_secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.auth_header_secret);
        self
    }

    /// Values of the headers `Accept` and `User-Agent`; empty ones are not set.
    #[must_use]
    pub fn header(mut self, accept: &str, user_agent: &str) -> Self {
        self.header = Some((accept.to_owned(), user_agent.to_owned()));
        self
    }

    /// An OpenPGP public key and a detached signature, both armored, that the content must fit.
    #[must_use]
    pub fn pgp_signature(mut self, public_key: &str, signature: &str) -> Self {
        self.signature = Some((public_key.to_owned(), signature.to_owned()));
        self
    }

    file_info_options!();

    /// A tree with the file.
    pub fn state(self) -> State {
        let mut constraints = self.constraints;
        let c = &mut constraints;
        let mut attrs = Attrs::default();
        if let Some(digest) = self.checksum {
            attrs.set_with_cap(c, attr::HTTP_CHECKSUM, digest.as_str(), caps::SOURCE_HTTP_CHECKSUM);
        }
        self.file.add_to(&mut attrs, Some(c));
        attrs.set_with_cap(c, attr::HTTP_AUTH_HEADER_SECRET, self.auth_header_secret, caps::SOURCE_HTTP_AUTH);
        if let Some((accept, user_agent)) = self.header {
            attrs.set(&format!("{}accept", attr::HTTP_HEADER_PREFIX), accept);
            attrs.set(&format!("{}user-agent", attr::HTTP_HEADER_PREFIX), user_agent);
            c.metadata.add_cap(caps::SOURCE_HTTP_HEADER);
        }
        if let Some((public_key, signature)) = self.signature {
            attrs.set(attr::HTTP_SIGNATURE_VERIFY_PUB_KEY, public_key);
            attrs.set(attr::HTTP_SIGNATURE_VERIFY, signature);
            c.metadata.add_cap(caps::SOURCE_HTTP_SIGNATURE_VERIFY);
        }
        c.metadata.add_cap(caps::SOURCE_HTTP);
        source(self.url, attrs.into_map(), constraints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_go_json() {
        assert_eq!(json_list(&[]), "");
        assert_eq!(json_list(&strings(["a<b>&\"", "ü"])), "[\"a\\u003cb\\u003e\\u0026\\\"\",\"ü\"]");
    }
}
