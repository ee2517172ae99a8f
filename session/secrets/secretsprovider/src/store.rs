use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_session_secrets::{Error, MAX_SECRET_SIZE, SecretStore};

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// The content of a file.
    File(PathBuf),
    /// The value of an environment variable.
    Env(String),
    /// The environment variable named like the secret if it is set, else the file named so.
    Guess,
}

/// A secret that builds may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// What builds call it.
    pub id: String,
    /// Where it comes from.
    pub from: SecretFrom,
}

/// Why a secret cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It has no id.
    #[error("secret missing ID")]
    NoId,
    /// Its file cannot be read.
    #[error("failed to stat {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too large.
    #[error("secret {id} too big. max size 500KB")]
    TooLarge {
        /// Its id.
        id: String,
    },
}

impl Classify for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoId | Self::TooLarge { .. } => Kind::InvalidArgument,
            Self::File { source, .. } => Kind::of_io(source),
        }
    }
}

/// Secrets of the machine that a client runs on.
#[derive(Debug, Default)]
pub struct Store {
    secrets: BTreeMap<String, SecretFrom>,
}

impl Store {
    /// Checks that the secrets are there and not too large; they are read when a build asks.
    ///
    /// # Errors
    /// When one cannot be offered.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Result<Self, StoreError> {
        let mut store = Self::default();
        for Secret { id, from } in secrets {
            if id.is_empty() {
                return Err(StoreError::NoId);
            }
            let from = match from {
                SecretFrom::Guess if std::env::var_os(&id).is_some() => SecretFrom::Env(id.clone()),
                SecretFrom::Guess => SecretFrom::File(PathBuf::from(&id)),
                given => given,
            };
            if let SecretFrom::File(path) = &from {
                let metadata = fs_err::metadata(path)
                    .map_err(|source| StoreError::File { path: path.clone(), source })?;
                if metadata.len() > MAX_SECRET_SIZE as u64 {
                    return Err(StoreError::TooLarge { id });
                }
            }
            store.secrets.insert(id, from);
        }
        Ok(store)
    }
}

#[async_trait]
impl SecretStore for Store {
    async fn get_secret(&self, id: &str) -> Result<Vec<u8>, Error> {
        let not_found = || Error::NotFound(id.to_owned());
        match self.secrets.get(id).ok_or_else(not_found)? {
            SecretFrom::Env(name) => {
                std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).ok_or_else(not_found)
            }
            SecretFrom::File(path) => fs_err::read(path)
                .map_err(|source| Error::Read { id: id.to_owned(), source: Box::new(source) }),
            SecretFrom::Guess => Err(not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: &str, from: SecretFrom) -> Secret {
        Secret { id: id.to_owned(), from }
    }

    #[tokio::test]
    async fn files_and_variables() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("s");
        fs_err::write(&path, "from file").expect("written");
        let store = Store::new([
            secret("f", SecretFrom::File(path.clone())),
            secret("PATH", SecretFrom::Guess),
            secret("e", SecretFrom::Env("UNSET_FOR_THIS_TEST".to_owned())),
        ])
        .expect("all there");
        assert_eq!(store.get_secret("f").await.expect("there"), b"from file");
        assert!(!store.get_secret("PATH").await.expect("there").is_empty());
        assert!(matches!(store.get_secret("e").await, Err(Error::NotFound(_))));
        assert!(matches!(store.get_secret("other").await, Err(Error::NotFound(_))));
    }

    #[test]
    fn bad_secrets_are_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("s");
        fs_err::write(&path, vec![0; MAX_SECRET_SIZE + 1]).expect("written");
        assert!(matches!(Store::new([secret("", SecretFrom::Guess)]), Err(StoreError::NoId)));
        let large = Store::new([secret("x", SecretFrom::File(path))]);
        assert!(matches!(large, Err(StoreError::TooLarge { .. })));
        let missing = Store::new([secret("x", SecretFrom::File("/nonexistent/x".into()))]);
        assert!(matches!(missing, Err(StoreError::File { .. })));
    }
}
