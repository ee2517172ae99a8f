//! Variables as states of builds have them.

use std::collections::HashMap;

use buildkit_client_llb::State;
use buildkit_frontend_dockerfile_shell::Env;

/// Variables in the order in which they were last set.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnvList {
    /// `None` was set again later on, or removed.
    entries: Vec<Option<(String, String)>>,
    /// Where in `entries` each variable is.
    places: HashMap<String, usize>,
}

impl EnvList {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let Some(before) = self.places.insert(name.to_owned(), self.entries.len()) {
            self.entries[before] = None;
        }
        self.entries.push(Some((name.to_owned(), value.to_owned())));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.entries[place] = None;
        }
    }

    /// The names in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.keys().into_iter().map(str::to_owned).collect()
    }
}

impl Env for EnvList {
    fn get(&self, name: &str) -> Option<&str> {
        let entry = self.entries.get(*self.places.get(name)?)?;
        entry.as_ref().map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.entries.iter().flatten().map(|(name, _)| name.as_str()).collect()
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

/// Sets variables in the list of an image's configuration, each in its place if it is there.
pub(crate) fn set_in_list<'a>(
    list: &mut Vec<String>,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(list.len());
    for (place, variable) in list.iter().enumerate() {
        // Of a name that is there twice, the first is the one that is set.
        places.entry(name_and_value(variable).0.to_owned()).or_insert(place);
    }
    for (name, value) in variables {
        let variable = format!("{name}={value}");
        match places.get(name) {
            Some(place) => list[*place] = variable,
            None => {
                places.insert(name.to_owned(), list.len());
                list.push(variable);
            }
        }
    }
}
