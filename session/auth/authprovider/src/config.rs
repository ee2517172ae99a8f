use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::{Error, helper};

/// Names the directory of the configuration.
const CONFIG_DIR: &str = "DOCKER_CONFIG";
/// Holds credentials that come before all others.
const CONFIG_ENV: &str = "DOCKER_AUTH_CONFIG";
const FILE: &str = "config.json";
/// Where the credentials of Docker Hub are kept, whatever its registry is called.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// What Docker Hub is called.
const HUB_HOSTS: [&str; 3] = ["registry-1.docker.io", "docker.io", "index.docker.io"];

/// What the user has for one registry.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// Name of the user.
    pub username: String,
    /// The password.
    pub password: String,
    /// User and password in one, as the file has them; empty once it is read.
    pub(crate) auth: String,
    /// Takes the place of user and password.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// A bearer token that is sent as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: Option<BTreeMap<String, AuthConfig>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Env {
    auths: BTreeMap<String, EnvAuth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvAuth {
    auth: String,
}

/// The user's docker configuration, as far as it is about registries.
#[derive(Debug, Default)]
pub struct DockerConfig {
    dir: PathBuf,
    auths: BTreeMap<String, AuthConfig>,
    /// Credentials of the environment.
    env: BTreeMap<String, AuthConfig>,
    store: String,
    helpers: BTreeMap<String, String>,
    /// `PATH` on which helpers are looked for.
    search: Option<String>,
}

impl DockerConfig {
    /// Reads the configuration; `variable` reads the environment. What cannot be read is left out, with
    /// a warning: most builds need no credentials.
    pub fn load(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = || set("HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_default();
        let dir = set(CONFIG_DIR).map_or_else(|| home().join(".docker"), PathBuf::from);
        let mut config = Self::read(&dir).unwrap_or_else(|error| {
            tracing::warn!("Error {error}");
            Self { dir, ..Self::default() }
        });
        if let Some(text) = set(CONFIG_ENV) {
            match parse_env(&text) {
                Ok(env) => config.env = env,
                Err(message) => {
                    tracing::warn!("Failed to create credential store from {CONFIG_ENV}: {message}");
                }
            }
        }
        config.search = variable("PATH");
        if config.auths.is_empty() && config.helpers.is_empty() && config.store.is_empty() {
            config.store = helper::default_store(config.search.as_deref()).unwrap_or_default().to_owned();
        }
        config
    }

    /// Reads the configuration in a directory; none is an empty one.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let text = match fs_err::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => b"{}".to_vec(),
            Err(source) => return Err(Error::Load { path, source }),
        };
        let damaged = |message: String| Error::Parse { path: path.clone(), message };
        // What stands behind the first value does not count, nor that there is nothing.
        let first = serde_json::Deserializer::from_slice(&text).into_iter::<File>().next();
        let file = first.transpose().map_err(|error| damaged(error.to_string()))?.unwrap_or_default();
        let mut auths = file.auths.unwrap_or_default();
        for (host, entry) in &mut auths {
            let auth = std::mem::take(&mut entry.auth);
            if !auth.is_empty() {
                (entry.username, entry.password) =
                    decode(&auth).map_err(|problem| damaged(format!("{problem} for `{host}`")))?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            auths,
            env: BTreeMap::new(),
            store: file.creds_store.unwrap_or_default(),
            helpers: file.cred_helpers.unwrap_or_default(),
            search: std::env::var("PATH").ok(),
        })
    }

    /// Directory of the configuration.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the user has for a registry: of the environment, else of the program that is set for the
    /// registry or for all, else of the file. Nothing is an empty answer.
    ///
    /// # Errors
    /// When the program fails.
    pub async fn get(&self, host: &str) -> Result<AuthConfig, Error> {
        let key = if HUB_HOSTS.contains(&host) { HUB_KEY } else { host };
        if let Some(found) = self.env.get(key) {
            return Ok(found.clone());
        }
        let mut found = self.of_file(key);
        let suffix = self.helpers.get(key).unwrap_or(&self.store);
        if !suffix.is_empty() {
            let kept = helper::get(suffix, key, self.search.as_deref()).await?;
            found.username = kept.username;
            found.password = kept.password;
            found.identity_token = kept.identity_token;
        }
        Ok(found)
    }

    fn of_file(&self, key: &str) -> AuthConfig {
        let exact = self.auths.get(key);
        // Old files have URLs for keys.
        let found =
            exact.or_else(|| self.auths.iter().find(|(url, _)| hostname(url) == key).map(|(_, auth)| auth));
        found.cloned().unwrap_or_default()
    }
}

/// The host and port of a URL, or what stands before the first slash.
fn hostname(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if rest.len() == url.len() {
        return authority;
    }
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// User and password of `base64("USER:PASSWORD")`. Errors do not tell what they are about.
fn decode(auth: &str) -> Result<(String, String), &'static str> {
    const INVALID: &str = "invalid auth configuration file";
    // Lines may be wrapped.
    let text: String = auth.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| INVALID)?;
    let text = String::from_utf8(bytes).map_err(|_| INVALID)?;
    let (user, password) = text.split_once(':').filter(|(user, _)| !user.is_empty()).ok_or(INVALID)?;
    Ok((user.to_owned(), password.trim_matches('\0').to_owned()))
}

fn parse_env(text: &str) -> Result<BTreeMap<String, AuthConfig>, String> {
    let env: Env = serde_json::from_str(text).map_err(|error| error.to_string())?;
    env.auths
        .into_iter()
        .map(|(host, EnvAuth { auth })| {
            let (username, password) = decode(&auth).map_err(|problem| format!("{problem} for `{host}`"))?;
            Ok((host, AuthConfig { username, password, ..AuthConfig::default() }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> String {
        BASE64_STANDARD.encode(text)
    }

    fn load(dir: &Path, env: &str) -> DockerConfig {
        let (dir, env) = (dir.display().to_string(), env.to_owned());
        DockerConfig::load(move |name| match name {
            CONFIG_DIR => Some(dir.clone()),
            CONFIG_ENV => Some(env.clone()),
            _ => None,
        })
    }

    #[tokio::test]
    async fn files() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "reg:5000": {{"username": "plain", "password": "text", "email": "x"}},
                "https://old.example:8443/v2/": {{"identitytoken": "idt"}},
                "static": {{"registrytoken": "rt"}}
            }}, "HttpHeaders": {{"A": "b"}}}} trailing"#,
            encode("hub:pass:word\0\0")
        );
        fs_err::write(dir.path().join(FILE), text).expect("written");
        let config = DockerConfig::read(dir.path()).expect("read");
        for (host, username, password, identity_token, registry_token) in [
            ("registry-1.docker.io", "hub", "pass:word", "", ""),
            ("docker.io", "hub", "pass:word", "", ""),
            ("https://index.docker.io/v1/", "hub", "pass:word", "", ""),
            ("reg:5000", "plain", "text", "", ""),
            ("old.example:8443", "", "", "idt", ""),
            ("static", "", "", "", "rt"),
            ("reg", "", "", "", ""),
        ] {
            let found = config.get(host).await.expect(host);
            let found = (
                found.username.as_str(),
                found.password.as_str(),
                found.identity_token.as_str(),
                found.registry_token.as_str(),
            );
            assert_eq!(found, (username, password, identity_token, registry_token), "{host}");
        }
    }

    #[tokio::test]
    async fn the_environment_comes_first() {
        let dir = tempfile::tempdir().expect("a directory");
        fs_err::write(dir.path().join(FILE), r#"{"auths":{"a":{"username":"f"},"b":{"username":"f"}}}"#)
            .expect("written");
        let env = format!(r#"{{"auths":{{"a":{{"auth":"{}"}}}}}}"#, encode("e:p"));
        let config = load(dir.path(), &env);
        assert_eq!(config.get("a").await.expect("there").username, "e");
        assert_eq!(config.get("b").await.expect("there").username, "f");
        // What is wrong there is not used at all.
        for bad in [r#"{"auths":{"a":{"auth":""}}}"#, r#"{"auths":{"a":{"auth":"eDp5","x":1}}}"#, "{} {}"] {
            assert_eq!(load(dir.path(), bad).get("a").await.expect("there").username, "f", "{bad}");
        }
    }

    #[test]
    fn damaged_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        for text in [
            "{".to_owned(),
            "7".to_owned(),
            r#"{"auths":{"a":{"auth":"!"}}}"#.to_owned(),
            format!(r#"{{"auths":{{"a":{{"auth":"{}"}}}}}}"#, encode("nocolon")),
            format!(r#"{{"auths":{{"a":{{"auth":"{}"}}}}}}"#, encode(":nouser")),
        ] {
            fs_err::write(&path, &text).expect("written");
            let error = DockerConfig::read(dir.path()).expect_err(&text);
            assert!(matches!(error, Error::Parse { .. }), "{error}");
            assert!(!error.to_string().contains("no"), "tells what is in the file: {error}");
            assert_eq!(load(dir.path(), "").dir(), dir.path());
        }
        for empty in ["", "{}", r#"{"auths":null,"credsStore":null}"#] {
            fs_err::write(&path, empty).expect("written");
            DockerConfig::read(dir.path()).expect(empty);
        }
    }

    #[test]
    fn hosts_of_urls() {
        for (url, host) in [
            ("https://a.b/v1/", "a.b"),
            ("http://u:p@a.b:1/x", "a.b:1"),
            ("a.b:1/x", "a.b:1"),
            ("a.b", "a.b"),
            ("https://a.b?x", "a.b"),
        ] {
            assert_eq!(hostname(url), host, "{url}");
        }
    }
}
