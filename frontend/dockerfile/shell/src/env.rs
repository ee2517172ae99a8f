use std::collections::HashMap;

/// The variables that words are expanded with.
pub trait Env {
    /// The value of the variable `name`, when it is set.
    fn get(&self, name: &str) -> Option<&str>;

    /// The names of all variables, in the order in which they were set.
    fn keys(&self) -> Vec<&str>;
}

/// No variable at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyEnv;

impl Env for EmptyEnv {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Variables by name; of one given several times the last value counts.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: HashMap<String, String>,
    keys: Vec<String>,
}

impl Variables {
    /// Reads `NAME=VALUE` strings, as image configurations have them. One without `=` is set and empty.
    pub fn from_list<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Self {
        let mut this = Self::default();
        for entry in list {
            let entry = entry.as_ref();
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            this.keys.push(name.to_owned());
            this.values.insert(name.to_owned(), value.to_owned());
        }
        this
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut this = Self::default();
        for (name, value) in pairs {
            let name = name.into();
            this.keys.push(name.clone());
            this.values.insert(name, value.into());
        }
        this
    }
}

impl Env for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }
}
