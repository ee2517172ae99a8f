use anyhow::{Context as _, Result, bail};

/// What a template is applied to, and what its expressions are worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// A pointer to nothing.
    Null,
    /// A list that was never made.
    NoList,
    /// What a map has not.
    Missing,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Data>),
    /// Fields with the names that templates use and those that JSON has.
    Struct(Vec<(&'static str, &'static str, Data)>),
    /// As a structure, but JSON leaves out what is empty: a message of protobuf.
    Message(Vec<(&'static str, &'static str, Data)>),
    /// Sorted by key.
    Map(Vec<(String, Data)>),
}

impl Data {
    /// A list of texts; Go's nil list when there are none.
    pub(crate) fn texts(list: &[String]) -> Self {
        Self::list(list.iter().cloned().map(Self::Text).collect())
    }

    /// A list; Go's nil list when it is empty.
    pub(crate) fn list(items: Vec<Self>) -> Self {
        if items.is_empty() { Self::NoList } else { Self::List(items) }
    }

    /// A field of a structure or the value of a key.
    pub(super) fn field(&self, name: &str) -> Result<&Self> {
        match self {
            Self::Struct(fields) | Self::Message(fields) => fields
                .iter()
                .find(|(known, _, _)| *known == name)
                .map(|(_, _, value)| value)
                .with_context(|| format!("can't evaluate field {name}")),
            Self::Map(entries) => {
                Ok(entries.iter().find(|(key, _)| key == name).map_or(&Self::Missing, |(_, value)| value))
            }
            Self::Null => bail!("nil pointer evaluating field {name}"),
            _ => bail!("can't evaluate field {name} in type {}", self.kind()),
        }
    }

    /// The number of items, entries or bytes.
    pub(super) fn length(&self) -> Result<usize> {
        match self {
            Self::NoList => Ok(0),
            Self::List(items) => Ok(items.len()),
            Self::Map(entries) => Ok(entries.len()),
            Self::Text(text) => Ok(text.len()),
            _ => bail!("len of type {}", self.kind()),
        }
    }

    /// Whether it is more than the empty value of its type.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Null | Self::Missing => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Struct(_) | Self::Message(_) => true,
            other => other.length().is_ok_and(|length| length > 0),
        }
    }

    /// The name of its type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null | Self::Missing => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int64",
            Self::Text(_) => "string",
            Self::List(_) | Self::NoList => "[]interface {}",
            Self::Struct(_) | Self::Message(_) => "struct",
            Self::Map(_) => "map[string]interface {}",
        }
    }

    pub(super) fn json(&self, out: &mut String) {
        let mut list = |marks: [char; 2], items: &mut dyn Iterator<Item = (Option<&str>, &Self)>| {
            out.push(marks[0]);
            for (number, (name, item)) in items.enumerate() {
                if number > 0 {
                    out.push(',');
                }
                if let Some(name) = name {
                    out.push_str(&serde_json::Value::from(name).to_string());
                    out.push(':');
                }
                item.json(out);
            }
            out.push(marks[1]);
        };
        match self {
            Self::List(items) => list(['[', ']'], &mut items.iter().map(|item| (None, item))),
            Self::Struct(fields) => {
                list(['{', '}'], &mut fields.iter().map(|(_, name, value)| (Some(*name), value)))
            }
            Self::Message(fields) => {
                let mut fields = fields.iter().filter(|(_, _, value)| value.is_true());
                list(['{', '}'], &mut fields.by_ref().map(|(_, name, value)| (Some(*name), value)))
            }
            Self::Map(entries) => {
                list(['{', '}'], &mut entries.iter().map(|(key, value)| (Some(key.as_str()), value)))
            }
            Self::Null | Self::NoList | Self::Missing => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
        }
    }

    /// As Go prints a value.
    pub(super) fn print(&self) -> String {
        match self {
            Self::Missing => "<no value>".to_owned(),
            _ => self.each(false, &mut |leaf| match leaf {
                Self::Null | Self::Missing => "<nil>".to_owned(),
                Self::Text(text) => text.clone(),
                other => {
                    let mut out = String::new();
                    other.json(&mut out);
                    out
                }
            }),
        }
    }

    /// Lists, structures and maps in Go's brackets, with `leaf` for what is in them.
    pub(super) fn each(&self, names: bool, leaf: &mut dyn FnMut(&Self) -> String) -> String {
        match self {
            Self::NoList => "[]".to_owned(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.each(names, leaf)).collect();
                format!("[{}]", items.join(" "))
            }
            Self::Struct(fields) | Self::Message(fields) => {
                let field = |(name, _, value): &(&str, &str, Self)| {
                    let value = value.each(names, leaf);
                    if names { format!("{name}:{value}") } else { value }
                };
                let fields: Vec<String> = fields.iter().map(field).collect();
                format!("{{{}}}", fields.join(" "))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| {
                    format!("{}:{}", leaf(&Self::Text(key.clone())), value.each(names, leaf))
                };
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("map[{}]", entries.join(" "))
            }
            other => leaf(other),
        }
    }
}
