use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::constraints::Constraints;
use crate::exec::{Network, Run, Security, Ulimit};
use crate::file::FileActions;
use crate::graph::{Kind, Node, Output};
use crate::marshal::{self, MarshalOptions};
use crate::{Definition, Error, Platform, Result, definition, path};

/// A tree that a graph of ops makes, and what processes on it inherit.
///
/// Immutable: methods return new states that share everything with the old one.
#[derive(Clone, Debug)]
pub struct State {
    /// `None` is the empty tree.
    pub(crate) output: Option<Output>,
    pub(crate) values: Arc<Values>,
}

/// What processes inherit from a state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    pub(crate) args: Vec<String>,
    pub(crate) dir: String,
    /// In the order in which they were last set.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) user: String,
    pub(crate) hostname: String,
    pub(crate) cgroup_parent: String,
    pub(crate) extra_hosts: Vec<(String, IpAddr)>,
    pub(crate) ulimits: Vec<(Ulimit, i64, i64)>,
    pub(crate) valid_exit_codes: Option<Vec<i32>>,
    pub(crate) platform: Option<Platform>,
    pub(crate) network: Network,
    pub(crate) security: Security,
}

impl Values {
    pub(crate) fn set_env(&mut self, key: &str, value: &str) {
        self.env.retain(|(known, _)| known != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// The same as setting them one after the other, in one pass.
    fn set_envs<'a>(&mut self, variables: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let variables: Vec<_> = variables.into_iter().collect();
        let mut keys = HashSet::with_capacity(variables.len());
        // Of a variable that is set twice the last value counts, in the place of that.
        let mut added: Vec<_> = variables.into_iter().rev().filter(|(key, _)| keys.insert(*key)).collect();
        added.reverse();
        self.env.retain(|(known, _)| !keys.contains(known.as_str()));
        self.env.extend(added.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    /// A relative directory counts from the present one.
    pub(crate) fn set_dir(&mut self, dir: &str) {
        self.dir = if dir.starts_with('/') {
            dir.to_owned()
        } else {
            let parent = if self.dir.is_empty() { "/" } else { &self.dir };
            path::join([parent, dir])
        };
    }
}

/// The empty tree.
pub fn scratch() -> State {
    State::from_output(None)
}

#[derive(Deserialize)]
struct ImageConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
    #[serde(default, rename = "os.version")]
    os_version: String,
    #[serde(default, rename = "os.features")]
    os_features: Option<Vec<String>>,
    #[serde(default)]
    config: Option<ProcessConfig>,
}

#[derive(Default, Deserialize)]
struct ProcessConfig {
    #[serde(default, rename = "Env")]
    env: Option<Vec<String>>,
    #[serde(default, rename = "WorkingDir")]
    working_dir: String,
}

impl State {
    /// A state with nothing but its tree and `/` as its directory.
    pub(crate) fn from_output(output: Option<Output>) -> Self {
        let values = Values { dir: "/".to_owned(), ..Values::default() };
        Self { output: None, values: Arc::new(values) }.with_output(output)
    }

    /// This state's values on another tree.
    pub(crate) fn with_output(&self, output: Option<Output>) -> Self {
        let mut state = Self { output, values: self.values.clone() };
        let platform = state.output.as_ref().and_then(|output| output.node.output_platform());
        if let Some(platform) = platform.cloned() {
            state = state.with_platform(platform);
        }
        state
    }

    pub(crate) fn invalid(error: Error) -> Self {
        let node = Node::new(Kind::Invalid(error), Vec::new(), Constraints::new());
        Self::from_output(Some(Output::first(node)))
    }

    fn change(&self, change: impl FnOnce(&mut Values)) -> Self {
        let mut state = self.clone();
        change(Arc::make_mut(&mut state.values));
        state
    }

    /// The state that a definition describes, to build upon. Its ops are kept byte for byte.
    ///
    /// # Errors
    /// [`Error::Definition`] when it cannot be decoded or refers to ops that it lacks.
    pub fn from_definition(definition: &Definition) -> Result<Self> {
        definition::load(definition)
    }

    /// Whether the tree is the empty one.
    pub fn is_scratch(&self) -> bool {
        self.output.is_none()
    }

    /// Applies a function; for chains.
    #[must_use]
    pub fn with(self, change: impl FnOnce(Self) -> Self) -> Self {
        change(self)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(&self, key: &str, value: &str) -> Self {
        self.change(|values| values.set_env(key, value))
    }

    /// Sets environment variables, one after the other.
    #[must_use]
    pub fn envs<'a>(&self, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.change(|values| values.set_envs(variables))
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn without_env(&self, key: &str) -> Self {
        self.change(|values| values.env.retain(|(known, _)| known != key))
    }

    /// The value of an environment variable.
    pub fn get_env(&self, key: &str) -> Option<&str> {
        let mut env = self.values.env.iter();
        env.find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Sets the working directory; a relative one counts from the present one.
    #[must_use]
    pub fn dir(&self, dir: &str) -> Self {
        self.change(|values| values.set_dir(dir))
    }

    /// The working directory.
    pub fn get_dir(&self) -> &str {
        &self.values.dir
    }

    /// Sets the user, as `user[:group]` by name or number.
    #[must_use]
    pub fn user(&self, user: &str) -> Self {
        self.change(|values| user.clone_into(&mut values.user))
    }

    /// Sets the host name.
    #[must_use]
    pub fn hostname(&self, hostname: &str) -> Self {
        self.change(|values| hostname.clone_into(&mut values.hostname))
    }

    /// Sets the network.
    #[must_use]
    pub fn network(&self, network: Network) -> Self {
        self.change(|values| values.network = network)
    }

    /// Sets the privileges of processes.
    #[must_use]
    pub fn security(&self, security: Security) -> Self {
        self.change(|values| values.security = security)
    }

    /// Adds an entry to the hosts file.
    #[must_use]
    pub fn extra_host(&self, host: &str, ip: IpAddr) -> Self {
        self.change(|values| values.extra_hosts.push((host.to_owned(), ip)))
    }

    /// Limits a resource of processes.
    #[must_use]
    pub fn ulimit(&self, limit: Ulimit, soft: i64, hard: i64) -> Self {
        self.change(|values| values.ulimits.push((limit, soft, hard)))
    }

    /// Sets the control group below which processes get theirs.
    #[must_use]
    pub fn cgroup_parent(&self, parent: &str) -> Self {
        self.change(|values| parent.clone_into(&mut values.cgroup_parent))
    }

    /// Exit codes that count as success.
    #[must_use]
    pub fn valid_exit_codes(&self, codes: impl Into<Vec<i32>>) -> Self {
        self.change(|values| values.valid_exit_codes = Some(codes.into()))
    }

    /// Sets the platform of ops that name none themselves.
    #[must_use]
    pub fn with_platform(&self, platform: Platform) -> Self {
        self.change(|values| values.platform = Some(platform.normalized()))
    }

    /// The platform, if one was set.
    pub fn get_platform(&self) -> Option<&Platform> {
        self.values.platform.as_ref()
    }

    /// The tree of `other` with everything else from this state.
    #[must_use]
    pub fn with_tree(&self, other: &Self) -> Self {
        self.with_output(other.output.clone())
    }

    /// The environment, in the order in which variables were last set.
    pub fn get_envs(&self) -> &[(String, String)] {
        &self.values.env
    }

    /// This state's tree with everything else from `other`.
    #[must_use]
    pub fn reset(&self, other: &Self) -> Self {
        let mut state = other.with_output(self.output.clone());
        Arc::make_mut(&mut state.values).set_dir("/");
        state
    }

    /// Takes environment, working directory and platform from an image's configuration, which is
    /// JSON of the OCI image specification.
    ///
    /// # Errors
    /// [`Error::ImageConfig`] when it is not.
    pub fn with_image_config(&self, config: &[u8]) -> Result<Self> {
        let image: ImageConfig =
            serde_json::from_slice(config).map_err(|error| Error::ImageConfig(error.to_string()))?;
        let process = image.config.unwrap_or_default();
        let mut state = self.change(|values| {
            let variables = process.env.iter().flatten();
            let variables = variables.map(|variable| variable.split_once('=').unwrap_or((variable, "")));
            values.set_envs(variables.filter(|(key, _)| !key.is_empty()));
            values.set_dir(&process.working_dir);
        });
        if !image.os.is_empty() && !image.architecture.is_empty() {
            state = state.with_platform(Platform {
                os: image.os,
                architecture: image.architecture,
                variant: image.variant,
                os_version: image.os_version,
                os_features: image.os_features.unwrap_or_default(),
            });
        }
        Ok(state)
    }

    /// Begins to describe a process on this tree.
    pub fn run(&self) -> Run {
        Run::new(self)
    }

    /// Changes files of this tree without a process.
    #[must_use]
    pub fn file(&self, actions: impl Into<FileActions>) -> Self {
        self.with_output(Some(actions.into().into_op(self)))
    }

    /// The graph as an encoded definition. The empty tree is a definition without ops.
    ///
    /// # Errors
    /// What was wrong with the calls that built the graph.
    pub fn marshal(&self, options: &MarshalOptions) -> Result<Definition> {
        marshal::marshal(self, options)
    }
}
