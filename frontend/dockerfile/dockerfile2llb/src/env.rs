//! Variables as states of builds have them.

use buildkit_client_llb::State;
use buildkit_frontend_dockerfile_shell::Env;

/// Variables in the order in which they were last set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvList(Vec<(String, String)>);

impl EnvList {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// The names in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Env for EnvList {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// The variables of a state.
pub(crate) struct StateEnv(pub(crate) State);

impl Env for StateEnv {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get_env(name)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.get_envs().iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Variables of which some are secrets, whose values are not to be shown.
pub(crate) struct Masked<'a> {
    pub(crate) env: &'a dyn Env,
    pub(crate) secrets: Vec<String>,
}

impl Env for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if self.secrets.iter().any(|secret| secret == name) { Some("****") } else { self.env.get(name) }
    }

    fn keys(&self) -> Vec<&str> {
        let is_secret = |name: &&str| self.secrets.iter().any(|secret| secret == name);
        let plain = self.env.keys().into_iter().filter(|name| !is_secret(name));
        plain.chain(self.secrets.iter().map(String::as_str)).collect()
    }
}

/// Splits `NAME=VALUE`; without `=` the value is empty.
pub(crate) fn name_and_value(variable: &str) -> (&str, &str) {
    variable.split_once('=').unwrap_or((variable, ""))
}

/// Sets a variable in the list of an image's configuration, in its place if it is there.
pub(crate) fn set_in_list(list: &mut Vec<String>, name: &str, value: &str) {
    let variable = format!("{name}={value}");
    match list.iter_mut().find(|known| name_and_value(known).0 == name) {
        Some(known) => *known = variable,
        None => list.push(variable),
    }
}
