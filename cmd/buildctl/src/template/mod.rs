//! Go's templates, by which people format lists.
//!
//! All of `text/template` that applies to plain data: fields, variables, pipelines, `if`, `with`, `range` and
//! its functions, with `json` beside them. Not there: templates that call others, and numbers with a point,
//! which no record has. The crates for it that there are keep neither the order of fields nor their two names.

mod data;
mod eval;
mod lex;
mod parse;
mod printf;

use anyhow::Result;

pub(crate) use data::Data;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses a template; `json` alone is `{{json .}}`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = if text == "json" { "{{json .}}" } else { text };
        Ok(Self { nodes: parse::parse(text)? })
    }

    /// The text for some data.
    pub(crate) fn render(&self, data: &Data) -> Result<String> {
        eval::render(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests;
