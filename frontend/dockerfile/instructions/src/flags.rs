use buildkit_frontend_dockerfile_parser::Word;

use crate::Error;
use crate::error::At;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `true`, `false` or nothing.
    Switch,
    /// One value.
    Text,
    /// A value each time that it stands.
    Texts,
}

/// The flags of an instruction, checked against those that it has.
#[derive(Debug, Default)]
pub(crate) struct Flags<'a> {
    given: Vec<Given<'a>>,
}

#[derive(Debug)]
struct Given<'a> {
    name: &'static str,
    value: &'a str,
    offset: usize,
}

impl<'a> Flags<'a> {
    pub(crate) fn read(words: &'a [Word], known: &[(&'static str, Takes)]) -> Result<Self, At> {
        let mut this = Self::default();
        for word in words {
            let given = this.check(&word.text, word.offset, known);
            this.given.push(given.map_err(|error| At { error, offset: Some(word.offset) })?);
        }
        Ok(this)
    }

    fn check(
        &self,
        word: &'a str,
        offset: usize,
        known: &[(&'static str, Takes)],
    ) -> Result<Given<'a>, Error> {
        let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
        let name = flag.strip_prefix("--").unwrap_or(flag);
        let Some((name, takes)) = known.iter().copied().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(Error::UnknownFlag(flag.to_owned()).suggesting(name, &names, true));
        };
        if takes != Takes::Texts && self.find(name).is_some() {
            return Err(Error::DuplicateFlag(flag.to_owned()));
        }
        let value = match (takes, value) {
            (Takes::Switch, None) => "true",
            (Takes::Switch, Some("")) | (_, None) => return Err(Error::MissingFlagValue(flag.to_owned())),
            (Takes::Switch, Some(value)) => match value.to_lowercase().as_str() {
                "true" => "true",
                "false" => "false",
                _ => {
                    let (flag, value) = (flag.to_owned(), value.to_owned());
                    return Err(Error::FlagNotBoolean { flag, value });
                }
            },
            (_, Some(value)) => value,
        };
        Ok(Given { name, value, offset })
    }

    fn find(&self, name: &str) -> Option<&Given<'a>> {
        self.given.iter().find(|given| given.name == name)
    }

    /// The value of a flag, empty when it was not given.
    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.find(name).map_or("", |given| given.value)
    }

    /// A switch, when it was given.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.find(name).map(|given| given.value == "true")
    }

    /// All values of a flag, and where they are.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = (&'a str, usize)> {
        self.given.iter().filter(move |given| given.name == name).map(|given| (given.value, given.offset))
    }

    /// Where a flag is.
    pub(crate) fn offset(&self, name: &str) -> Option<usize> {
        self.find(name).map(|given| given.offset)
    }

    /// The names of the flags given, each once.
    pub(crate) fn used(&self) -> Vec<String> {
        let mut used: Vec<String> = Vec::new();
        for given in &self.given {
            if !used.iter().any(|name| name == given.name) {
                used.push(given.name.to_owned());
            }
        }
        used
    }
}
