//! The part of Go's templates that people format lists with.

use anyhow::{Context as _, Result, bail};

/// What a template is applied to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Data>),
    /// Fields with the names that templates use and those that JSON has.
    Struct(Vec<(&'static str, &'static str, Data)>),
    Map(Vec<(String, Data)>),
}

impl Data {
    /// A list of texts; Go's nil list when there are none.
    pub(crate) fn texts(list: &[String]) -> Self {
        if list.is_empty() {
            return Self::Null;
        }
        Self::List(list.iter().cloned().map(Self::Text).collect())
    }

    fn field(&self, name: &str) -> Result<&Self> {
        match self {
            Self::Struct(fields) => fields
                .iter()
                .find(|(known, _, _)| *known == name)
                .map(|(_, _, value)| value)
                .with_context(|| format!("can't evaluate field {name}")),
            Self::Map(entries) => {
                Ok(entries.iter().find(|(key, _)| key == name).map_or(&Self::Null, |(_, value)| value))
            }
            _ => bail!("can't evaluate field {name}"),
        }
    }

    fn json(&self, out: &mut String) {
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
            Self::Map(entries) => {
                list(['{', '}'], &mut entries.iter().map(|(key, value)| (Some(key.as_str()), value)))
            }
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
        }
    }

    /// As Go prints a value.
    fn print(&self, out: &mut String) {
        let mut list = |items: Vec<String>, marks: [&str; 2]| {
            out.push_str(marks[0]);
            out.push_str(&items.join(" "));
            out.push_str(marks[1]);
        };
        let printed = |data: &Self| {
            let mut text = String::new();
            data.print(&mut text);
            text
        };
        match self {
            Self::Null => out.push_str("<nil>"),
            Self::Bool(_) | Self::Int(_) => self.json(out),
            Self::Text(text) => out.push_str(text),
            Self::List(items) => list(items.iter().map(printed).collect(), ["[", "]"]),
            Self::Struct(fields) => {
                list(fields.iter().map(|(_, _, value)| printed(value)).collect(), ["{", "}"]);
            }
            Self::Map(entries) => list(
                entries.iter().map(|(key, value)| format!("{key}:{}", printed(value))).collect(),
                ["map[", "]"],
            ),
        }
    }
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Print(Vec<String>),
    Json(Vec<String>),
    Len(Vec<String>),
    Range(Vec<String>, Vec<Part>),
    If(Vec<String>, Vec<Part>),
}

impl Template {
    /// Parses a template of text and the actions `{{.Path}}`, `{{json .Path}}`, `{{len .Path}}`,
    /// `{{range .Path}}…{{end}}` and `{{if .Path}}…{{end}}`; `json` alone is `{{json .}}`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = if text == "json" { "{{json .}}" } else { text };
        let mut rest = text;
        let parts = parse(&mut rest, false)?;
        Ok(Self { parts })
    }

    /// The text for some data.
    pub(crate) fn render(&self, data: &Data) -> Result<String> {
        let mut out = String::new();
        render(&self.parts, data, &mut out)?;
        Ok(out)
    }
}

fn parse(rest: &mut &str, inside: bool) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut trim_next = false;
    loop {
        let Some(open) = rest.find("{{") else {
            if inside {
                bail!("Template ends inside of a block: `{{{{end}}}}` is missing");
            }
            push_text(&mut parts, rest, trim_next, false);
            return Ok(parts);
        };
        let close = rest[open..].find("}}").context("Template ends inside of an action")? + open;
        let action = &rest[open + 2..close];
        let trim_before = action.starts_with("- ");
        push_text(&mut parts, &rest[..open], trim_next, trim_before);
        trim_next = action.ends_with(" -");
        *rest = &rest[close + 2..];
        let action = action.trim_start_matches("- ").trim_end_matches(" -").trim();
        let (word, argument) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
        parts.push(match word {
            "end" if inside => return Ok(parts),
            "json" => Part::Json(path(argument)?),
            "len" => Part::Len(path(argument)?),
            "range" => Part::Range(path(argument)?, parse(rest, true)?),
            "if" => Part::If(path(argument)?, parse(rest, true)?),
            _ if word.starts_with('.') && argument.is_empty() => Part::Print(path(word)?),
            _ => bail!("Template action `{action}` is not supported"),
        });
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

fn path(text: &str) -> Result<Vec<String>> {
    let text = text.trim();
    let fields = text.strip_prefix('.').with_context(|| format!("`{text}` is not a path"))?;
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    fields
        .split('.')
        .map(|name| {
            if name.is_empty() || !is_name(name) {
                bail!("`{text}` is not a path");
            }
            Ok(name.to_owned())
        })
        .collect()
}

fn resolve<'a>(path: &[String], data: &'a Data) -> Result<&'a Data> {
    path.iter().try_fold(data, |data, name| data.field(name))
}

fn render(parts: &[Part], data: &Data, out: &mut String) -> Result<()> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Print(path) => resolve(path, data)?.print(out),
            Part::Json(path) => resolve(path, data)?.json(out),
            Part::Len(path) => out.push_str(&length(resolve(path, data)?)?.to_string()),
            Part::If(path, inner) => {
                if is_true(resolve(path, data)?) {
                    render(inner, data, out)?;
                }
            }
            Part::Range(path, inner) => match resolve(path, data)? {
                Data::Null => {}
                Data::List(items) => {
                    for item in items {
                        render(inner, item, out)?;
                    }
                }
                Data::Map(entries) => {
                    for (_, item) in entries {
                        render(inner, item, out)?;
                    }
                }
                _ => bail!("range can't iterate over .{}", path.join(".")),
            },
        }
    }
    Ok(())
}

fn length(data: &Data) -> Result<usize> {
    match data {
        Data::Null => Ok(0),
        Data::List(items) => Ok(items.len()),
        Data::Map(entries) => Ok(entries.len()),
        Data::Text(text) => Ok(text.len()),
        _ => bail!("len of a value that has none"),
    }
}

fn is_true(data: &Data) -> bool {
    match data {
        Data::Null => false,
        Data::Bool(value) => *value,
        Data::Int(value) => *value != 0,
        Data::Struct(_) => true,
        other => length(other).is_ok_and(|length| length > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Data {
        let item = |id: &str, size| {
            Data::Struct(vec![
                ("ID", "id", Data::Text(id.to_owned())),
                ("Size", "size", Data::Int(size)),
                ("Parents", "parents", Data::texts(&[])),
            ])
        };
        Data::List(vec![item("a<", 1), item("b", 2)])
    }

    fn render(template: &str) -> String {
        match Template::parse(template).and_then(|template| template.render(&data())) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn templates() {
        let json = r#"[{"id":"a<","size":1,"parents":null},{"id":"b","size":2,"parents":null}]"#;
        for (template, expect) in [
            ("json", json),
            ("{{json .}}", json),
            ("{{ json . }}!", &format!("{json}!")),
            ("{{range .}}{{.ID}}={{.Size}};{{end}}", "a<=1;b=2;"),
            ("{{range .}}\n  {{- .ID -}}\n{{end}}", "a<b"),
            ("{{len .}} {{.}}", "2 [{a< 1 <nil>} {b 2 <nil>}]"),
            ("{{range .}}{{if .Parents}}x{{end}}{{end}}", ""),
            ("{{.Nope}}", "error: can't evaluate field Nope"),
            ("{{range .}}", "error: Template ends inside of a block: `{{end}}` is missing"),
            ("{{printf 1}}", "error: Template action `printf 1` is not supported"),
            ("{{", "error: Template ends inside of an action"),
        ] {
            assert_eq!(render(template), expect, "{template}");
        }
    }
}
