//! Configuration of a network: which plugins run, in which order, with which settings.

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// Configuration files are never larger, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// More plugins than any network has.
const MAX_PLUGINS: usize = 64;

/// Version of the specification that is meant when a configuration names none.
const OLDEST_VERSION: &str = "0.1.0";

/// A network and the plugins that make it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct NetworkConfig {
    pub(crate) name: String,
    #[serde(rename = "cniVersion")]
    pub(crate) version: String,
    pub(crate) plugins: Vec<Map<String, Value>>,
}

impl NetworkConfig {
    /// Reads a file with one plugin (`conf`) or with a list of them (`conflist`); which it is shows in its
    /// content.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Config { path: path.to_owned(), reason };
        let mut content = Vec::new();
        let file = fs_err::File::open(path).map_err(|error| wrong(error.to_string()))?;
        file.take(MAX_SIZE + 1).read_to_end(&mut content).map_err(|error| wrong(error.to_string()))?;
        if content.len() as u64 > MAX_SIZE {
            return Err(wrong(format!("larger than {MAX_SIZE} bytes")));
        }
        Self::parse(&content).map_err(wrong)
    }

    /// Understands the content of such a file.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let Value::Object(mut object) = value else {
            return Err("not a JSON object".to_owned());
        };
        let name = match object.get("name") {
            Some(Value::String(name)) => name.clone(),
            Some(_) => return Err("`name` is not a text".to_owned()),
            None => return Err("has no `name`".to_owned()),
        };
        let version = match object.get("cniVersion") {
            Some(Value::String(version)) if !version.is_empty() => version.clone(),
            Some(Value::String(_)) | None => OLDEST_VERSION.to_owned(),
            Some(_) => return Err("`cniVersion` is not a text".to_owned()),
        };
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins
                .into_iter()
                .map(|plugin| match plugin {
                    Value::Object(plugin) => Ok(plugin),
                    _ => Err("a plugin is not a JSON object".to_owned()),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err("`plugins` is not a list".to_owned()),
            None => vec![object],
        };
        let config = Self { name, version, plugins };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let first = self.name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !first || !self.name.bytes().all(rest) {
            return Err(format!(
                "the name {:?} has other characters than letters, numbers and `_.-`",
                self.name
            ));
        }
        if self.plugins.is_empty() {
            return Err("names no plugins".to_owned());
        }
        if self.plugins.len() > MAX_PLUGINS {
            return Err(format!("names more than {MAX_PLUGINS} plugins"));
        }
        for plugin in &self.plugins {
            let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            if kind.is_empty() {
                return Err("a plugin has no `type`".to_owned());
            }
            // It is the name of a program in the directories of plugins.
            if kind.contains(['/', '\0']) || matches!(kind, "." | "..") {
                return Err(format!("the plugin type {kind:?} is not the name of a program"));
            }
        }
        Ok(())
    }

    /// The plugins, each with its type.
    pub(crate) fn plugins(&self) -> impl DoubleEndedIterator<Item = (&str, &Map<String, Value>)> {
        self.plugins
            .iter()
            .map(|plugin| (plugin.get("type").and_then(Value::as_str).unwrap_or_default(), plugin))
    }

    /// What a plugin reads: its settings, the network, and the result of those before it.
    pub(crate) fn input(&self, plugin: &Map<String, Value>, previous: Option<&Value>) -> Vec<u8> {
        let mut object = plugin.clone();
        object.insert("name".to_owned(), self.name.clone().into());
        object.insert("cniVersion".to_owned(), self.version.clone().into());
        // A result of this very time, not one that the file claims.
        object.remove("prevResult");
        if let Some(previous) = previous {
            object.insert("prevResult".to_owned(), previous.clone());
        }
        Value::Object(object).to_string().into_bytes()
    }

    /// Whether plugins of this version are told the result when a container leaves (since 0.4.0).
    pub(crate) fn has_result_at_del(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse::<u64>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (major, minor) >= (0, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetworkConfig, String> {
        NetworkConfig::parse(text.as_bytes())
    }

    #[test]
    fn one_plugin_or_a_list() {
        let one = parse(r#"{"cniVersion":"1.0.0","name":"n","type":"bridge","mtu":3}"#).expect("valid");
        assert_eq!((&*one.name, &*one.version), ("n", "1.0.0"));
        assert_eq!(one.plugins().map(|(kind, _)| kind).collect::<Vec<_>>(), ["bridge"]);
        let list =
            parse(r#"{"name":"n","plugins":[{"type":"a"},{"type":"b","prevResult":1}]}"#).expect("valid");
        assert_eq!(list.plugins().map(|(kind, _)| kind).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(list.version, "0.1.0");
        let (_, last) = list.plugins().next_back().expect("a plugin");
        let input = |previous: Option<&Value>| String::from_utf8(list.input(last, previous)).expect("text");
        assert_eq!(input(None), r#"{"cniVersion":"0.1.0","name":"n","type":"b"}"#);
        assert_eq!(input(Some(&7.into())), r#"{"cniVersion":"0.1.0","name":"n","prevResult":7,"type":"b"}"#);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (text, reason) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[]", "not a JSON object"),
            (&deep, "recursion limit"),
            (r#"{"type":"bridge"}"#, "has no `name`"),
            (r#"{"name":7,"type":"bridge"}"#, "`name` is not a text"),
            (r#"{"name":"../x","type":"bridge"}"#, "other characters"),
            (r#"{"name":"","type":"bridge"}"#, "other characters"),
            (r#"{"name":"n"}"#, "no `type`"),
            (r#"{"name":"n","type":7}"#, "no `type`"),
            (r#"{"name":"n","type":"../sh"}"#, "not the name of a program"),
            (r#"{"name":"n","type":".."}"#, "not the name of a program"),
            (r#"{"name":"n","cniVersion":1,"type":"a"}"#, "`cniVersion` is not a text"),
            (r#"{"name":"n","plugins":[]}"#, "names no plugins"),
            (r#"{"name":"n","plugins":{}}"#, "not a list"),
            (r#"{"name":"n","plugins":["a"]}"#, "not a JSON object"),
        ] {
            let error = parse(text).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn files_are_read_up_to_a_limit() {
        let dir = tempfile::tempdir().expect("directory");
        let error = |path: &Path| NetworkConfig::load(path).expect_err("wrong").to_string();
        assert!(error(&dir.path().join("no")).contains("No such file"));
        assert!(error(Path::new("/dev/zero")).contains("larger than"));
        assert!(error(dir.path()).contains("CNI configuration"));
    }

    #[test]
    fn versions_in_which_results_are_told() {
        for (version, told) in
            [("0.3.1", false), ("0.4.0", true), ("1.0.0", true), ("", false), ("x.y", false)]
        {
            let config =
                NetworkConfig { name: String::new(), version: version.to_owned(), plugins: Vec::new() };
            assert_eq!(config.has_result_at_del(), told, "{version}");
        }
    }
}
