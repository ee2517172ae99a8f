use buildkit_solver_pb::attr;
use buildkit_source::{Error, Identifier};
use buildkit_util_cachedigest::Digest;
use buildkit_util_fsutil::Differ;
use buildkit_util_gojson::Object;
use buildkit_util_gotext::parse_bool;

/// A list as Go has it: none is not the same as empty in a key.
type List = Option<Vec<String>>;

/// Most bytes of a list of patterns. They are sent to the client with the call and matched against every path,
/// so more than people write is an error, as in a `.dockerignore`.
const MAX_LIST: usize = 1 << 20;

/// What the attributes of a local source say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) name: String,
    /// The session that has the directory; empty for any of the build's.
    pub(crate) session: String,
    pub(crate) include: List,
    pub(crate) exclude: List,
    pub(crate) follow_paths: List,
    pub(crate) shared_key_hint: String,
    pub(crate) differ: Differ,
    pub(crate) metadata_only: bool,
    pub(crate) metadata_exceptions: List,
}

impl Options {
    pub(crate) fn parse(identifier: &Identifier) -> Result<Self, Error> {
        let mut options = Self { name: identifier.reference.clone(), ..Self::default() };
        for (key, value) in &identifier.attrs {
            let list = || {
                if value.len() > MAX_LIST {
                    return Err(Error::Invalid(format!(
                        "Value for `{key}` has {} bytes, at most {MAX_LIST} are allowed",
                        value.len()
                    )));
                }
                serde_json::from_str::<List>(value)
                    .map_err(|error| Error::Invalid(format!("Invalid value for `{key}`: {error}")))
            };
            match key.as_str() {
                attr::LOCAL_SESSION_ID => {
                    // A prefix tells directories of one name in several builds apart.
                    match value.split_once(':') {
                        Some((prefix, id)) => {
                            options.name = format!("{prefix}-{}", options.name);
                            id.clone_into(&mut options.session);
                        }
                        None => options.session.clone_from(value),
                    }
                }
                attr::INCLUDE_PATTERNS => options.include = list()?,
                attr::EXCLUDE_PATTERNS => options.exclude = list()?,
                attr::FOLLOW_PATHS => options.follow_paths = list()?,
                attr::SHARED_KEY_HINT => options.shared_key_hint.clone_from(value),
                attr::LOCAL_DIFFER if value == attr::LOCAL_DIFFER_NONE => {
                    options.differ = Differ::None;
                }
                attr::METADATA_TRANSFER => {
                    options.metadata_only = parse_bool(value).ok_or_else(|| {
                        Error::Invalid(format!(
                            "invalid value for local.metadatatransfer {value:?}: strconv.ParseBool: parsing \
                             {value:?}: invalid syntax"
                        ))
                    })?;
                }
                attr::METADATA_TRANSFER_EXCLUDE => options.metadata_exceptions = list()?,
                // The unique id only makes the op another one.
                _ => {}
            }
        }
        Ok(options)
    }

    /// The digest of what decides which files are transferred, from a session.
    pub(crate) fn digest(&self, session: &str) -> Digest {
        let mut json = String::new();
        let mut object = Object::new(&mut json);
        object.field("SessionID", session);
        object.field("IncludePatterns", &self.include);
        object.field("ExcludePatterns", &self.exclude);
        object.field("FollowPaths", &self.follow_paths);
        if self.metadata_only {
            object.field("MetadataTransfer", &true);
        }
        if self.metadata_exceptions.as_ref().is_some_and(|list| !list.is_empty()) {
            object.field("MetadataExceptions", &self.metadata_exceptions);
        }
        drop(object);
        Digest::sha256(json)
    }

    /// Transfers of one key build on each other.
    pub(crate) fn shared_key(&self, session_key: &str) -> String {
        let suffix = if self.metadata_only { ":metadata" } else { "" };
        format!("{}:{}:{session_key}{suffix}", self.name, self.shared_key_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(attrs: &[(&str, &str)]) -> Result<Options, Error> {
        Options::parse(&Identifier {
            platform: None,
            scheme: "local".to_owned(),
            reference: "context".to_owned(),
            attrs: attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        })
    }

    #[test]
    fn attributes() {
        let options = parse(&[
            ("local.session", "build:abc"),
            ("local.includepattern", r#"["a","b"]"#),
            ("local.excludepatterns", "[]"),
            ("local.followpaths", "null"),
            ("local.sharedkeyhint", "hint"),
            ("local.differ", "none"),
            ("local.metadatatransfer", "t"),
            ("local.metadatatransferexclude", r#"["x"]"#),
            ("local.unique", "whatever"),
        ])
        .expect("are right");
        let expect = Options {
            name: "build-context".to_owned(),
            session: "abc".to_owned(),
            include: Some(vec!["a".to_owned(), "b".to_owned()]),
            exclude: Some(Vec::new()),
            follow_paths: None,
            shared_key_hint: "hint".to_owned(),
            differ: Differ::None,
            metadata_only: true,
            metadata_exceptions: Some(vec!["x".to_owned()]),
        };
        assert_eq!(options, expect);
        assert_eq!(options.shared_key("key"), "build-context:hint:key:metadata");
        assert_eq!(
            options.digest("s"),
            Digest::sha256(
                r#"{"SessionID":"s","IncludePatterns":["a","b"],"ExcludePatterns":[],"FollowPaths":null,"MetadataTransfer":true,"MetadataExceptions":["x"]}"#
            )
        );
        let plain = parse(&[]).expect("are right");
        assert_eq!(
            plain.digest("s"),
            Digest::sha256(
                r#"{"SessionID":"s","IncludePatterns":null,"ExcludePatterns":null,"FollowPaths":null}"#
            )
        );
        assert!(parse(&[("local.includepattern", "{")]).is_err());
        assert!(parse(&[("local.metadatatransfer", "yes")]).is_err());
    }

    #[test]
    fn a4_03_lists_of_patterns_are_bounded() {
        for key in [
            "local.includepattern",
            "local.excludepatterns",
            "local.followpaths",
            "local.metadatatransferexclude",
        ] {
            let list = |patterns: usize| serde_json::to_string(&vec!["**/x"; patterns]).expect("a list");
            assert!(parse(&[(key, &list(100_000))]).is_ok(), "{key}");
            let error = parse(&[(key, &list(200_000))]).expect_err("too long");
            assert!(
                error.to_string().contains(key) && error.to_string().contains("at most 1048576"),
                "{error}"
            );
        }
    }
}
