use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use buildkit_util_ocispec::{Descriptor, Index, Layout, annotation, to_json};

use crate::Error;
use crate::file::{Annotated, IndexFile, LARGEST};
use crate::lock::Lock;

/// Times that an index is read that makes no sense: some programs change it in place.
const ATTEMPTS: usize = 5;

/// What an image in a layout is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A name of an image, such as `docker.io/library/busybox:1`.
    Image(String),
    /// A tag only, such as `latest`.
    Tag(String),
}

impl Name {
    /// The name of the image, which may be nothing, and its tag.
    fn parts(&self) -> (&str, &str) {
        match self {
            Self::Image(name) => (name, tag_of(name)),
            Self::Tag(tag) => ("", tag),
        }
    }
}

/// The index of the layout in a directory. Its calls block, on other processes too.
#[derive(Clone, Debug)]
pub struct StoreIndex {
    root: PathBuf,
}

impl StoreIndex {
    /// The index of this layout.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The index.
    ///
    /// # Errors
    /// When there is none, or it is malformed.
    pub fn read(&self) -> Result<Index, Error> {
        self.parsed(|bytes| serde_json::from_slice(bytes))
    }

    /// The image of a name, or else that of a tag; nothing if there is none.
    ///
    /// # Errors
    /// When there is no index, or it or the image's entry is malformed.
    pub fn get(&self, tag: &str) -> Result<Option<Descriptor>, Error> {
        let index = self.parsed(IndexFile::parse)?;
        for key in [annotation::IMAGE_NAME, annotation::REF_NAME] {
            let found = index.manifests.iter().find(|entry| Annotated::of(entry).get(key) == Some(tag));
            if let Some(found) = found {
                return serde_json::from_str(found.get()).map(Some).map_err(|error| self.invalid(&error));
            }
        }
        Ok(None)
    }

    /// The image, if there is one only.
    ///
    /// # Errors
    /// When there is no index, or it or the image's entry is malformed.
    pub fn single(&self) -> Result<Option<Descriptor>, Error> {
        let index = self.parsed(IndexFile::parse)?;
        match index.manifests.as_slice() {
            [one] => serde_json::from_str(one.get()).map(Some).map_err(|error| self.invalid(&error)),
            _ => Ok(None),
        }
    }

    /// Adds an image under each of these names, or without one, and removes those that had them. Makes the
    /// directory a layout if it is none; it must exist.
    ///
    /// # Errors
    /// When the index is malformed, cannot be written, or is locked for long.
    pub fn put(&self, image: &Descriptor, names: &[Name]) -> Result<(), Error> {
        let _lock = Lock::write(&self.root.join("index.json.lock"))?;
        let layout = self.root.join("oci-layout");
        if !layout.exists() {
            replace(&layout, &to_json(&Layout::default()))?;
        }
        let bytes = match self.bytes() {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let failed = |error: serde_json::Error| self.invalid(&error);
        let mut index = IndexFile::parse(&bytes).map_err(failed)?;
        index.complete().map_err(failed)?;
        if names.is_empty() {
            index.add(image).map_err(failed)?;
        }
        for name in names {
            let (image_name, tag) = name.parts();
            index.manifests.retain(|entry| {
                let entry = Annotated::of(entry);
                let is = |key, value| entry.get(key).unwrap_or_default() == value;
                !(is(annotation::IMAGE_NAME, image_name) && is(annotation::REF_NAME, tag))
            });
            let mut named = image.clone().with_annotation(annotation::REF_NAME, tag);
            if !image_name.is_empty() {
                named = named.with_annotation(annotation::IMAGE_NAME, image_name);
            }
            index.add(&named).map_err(failed)?;
        }
        replace(&self.file(), &to_json(&index))
    }

    fn file(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn invalid(&self, error: &serde_json::Error) -> Error {
        Error::Invalid { path: self.file(), reason: error.to_string() }
    }

    fn parsed<T>(&self, parse: impl Fn(&[u8]) -> serde_json::Result<T>) -> Result<T, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let bytes = {
                let _lock = Lock::read(&self.root.join("index.json.lock"))?;
                self.bytes()?
            };
            match parse(&bytes) {
                Ok(index) => return Ok(index),
                Err(error) if attempt == ATTEMPTS => return Err(self.invalid(&error)),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
            }
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let path = self.file();
        let file = fs_err::File::open(&path).map_err(Error::io("read", &path))?;
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::Invalid { path, reason: format!("it has more than {LARGEST} bytes") });
        }
        Ok(bytes)
    }
}

/// Writes a file as a whole. Only one writer is there, for it has the lock.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let part = path.with_extension("part");
    let written = || -> io::Result<()> {
        let mut file = fs_err::File::create(&part)?;
        file.write_all(bytes)?;
        fs_err::rename(&part, path)
    };
    written().map_err(Error::io("write", path))
}

/// The tag of a name, with its digest if it has one, as containerd's exporter takes it: what follows the first `:` or
/// `@` of the path behind the host. A name that has no host in this sense stays whole.
fn tag_of(name: &str) -> &str {
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let is_host = match host.rsplit_once(':') {
        Some((host, port)) => !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()),
        None => !host.is_empty(),
    };
    if !is_host || name.contains("://") {
        return name;
    }
    match path.find([':', '@']) {
        Some(at) => path[at..].strip_prefix(':').unwrap_or(&path[at..]),
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_as_containerd_finds_them() {
        for (name, tag) in [
            ("docker.io/library/busybox:1", "1"),
            ("docker.io/library/busybox", ""),
            ("localhost:5000/a/b:v1@sha256:00", "v1@sha256:00"),
            ("localhost:5000/a@sha256:00", "@sha256:00"),
            ("busybox:latest", "busybox:latest"),
            ("busybox", ""),
            ("/a:b", "/a:b"),
            ("http://a/b:c", "http://a/b:c"),
            ("", ""),
        ] {
            assert_eq!(tag_of(name), tag, "{name}");
        }
    }
}
