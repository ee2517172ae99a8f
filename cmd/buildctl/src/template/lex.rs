//! A template as text and the tokens of its actions.

use anyhow::{Context as _, Result, bail};

use super::data::Data;

/// What a template consists of, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// A token and whether it follows the one before it without a space.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) is_glued: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Word(String),
    Literal(Data),
    /// One of `| ( ) , =`, or `:` for `:=`.
    Mark(char),
}

/// Splits a template.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>> {
    let (mut pieces, mut rest, mut trim) = (Vec::new(), template, false);
    while let Some(open) = rest.find("{{") {
        let mut inside = &rest[open + 2..];
        let mut text = &rest[..open];
        if trim {
            text = text.trim_start();
        }
        if inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace) {
            inside = &inside[1..];
            text = text.trim_end();
        }
        push_text(&mut pieces, text);
        let tokens;
        (tokens, trim, rest) = action(inside)?;
        pieces.extend(tokens.map(Piece::Action));
    }
    push_text(&mut pieces, if trim { rest.trim_start() } else { rest });
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The tokens of an action (`None` for a comment), whether the text after it is trimmed, and that text.
fn action(text: &str) -> Result<(Option<Vec<Token>>, bool, &str)> {
    const OPEN: &str = "Template ends inside of an action";
    if let Some(comment) = text.trim_start().strip_prefix("/*") {
        let end = comment.find("*/").context(OPEN)?;
        let after = &comment[end + 2..];
        let (trim, rest) = end_of_action(after).context("Template has a comment beside an action")?;
        return Ok((None, trim, rest));
    }
    let (mut tokens, mut rest) = (Vec::new(), text);
    loop {
        if let Some((trim, after)) = end_of_action(rest) {
            return Ok((Some(tokens), trim, after));
        }
        let start = rest.trim_start();
        let is_glued = start.len() == rest.len();
        let (kind, after) = token(start).context(OPEN)??;
        tokens.push(Token { kind, is_glued });
        rest = after;
    }
}

/// Whether the text after it is trimmed, and that text, when the action ends here, perhaps after spaces.
fn end_of_action(text: &str) -> Option<(bool, &str)> {
    let start = text.trim_start();
    let has_space = start.len() < text.len();
    if let Some(rest) = start.strip_prefix("}}") {
        return Some((false, rest));
    }
    let rest = start.strip_prefix("-}}")?;
    has_space.then_some((true, rest))
}

/// The first token of a text that begins with one, and what is behind it; `None` at the end.
fn token(text: &str) -> Option<Result<(Kind, &str)>> {
    let first = text.chars().next()?;
    let name = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    Some(Ok(match first {
        '.' => {
            let end = 1 + name(&text[1..]);
            let field = &text[1..end];
            let kind = if field.is_empty() { Kind::Dot } else { Kind::Field(field.to_owned()) };
            (kind, &text[end..])
        }
        '$' => {
            let end = 1 + name(&text[1..]);
            (Kind::Variable(text[1..end].to_owned()), &text[end..])
        }
        '"' | '\'' | '`' => return Some(quoted(text, first)),
        '0'..='9' | '-' | '+' => return Some(number(text)),
        '|' | '(' | ')' | ',' | '=' => (Kind::Mark(first), &text[1..]),
        ':' if text.starts_with(":=") => (Kind::Mark(':'), &text[2..]),
        _ if first.is_alphabetic() || first == '_' => {
            let end = name(text);
            (Kind::Word(text[..end].to_owned()), &text[end..])
        }
        _ => return Some(Err(anyhow::anyhow!("Template has an unexpected {first:?} in an action"))),
    }))
}

fn number(text: &str) -> Result<(Kind, &str)> {
    let end = text[1..]
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
        .map_or(text.len(), |n| n + 1);
    let digits = text[..end].replace('_', "");
    let magnitude = digits.trim_start_matches(['+', '-']);
    let parsed = match magnitude.get(..2) {
        Some("0x" | "0X") => i64::from_str_radix(&magnitude[2..], 16),
        Some("0o" | "0O") => i64::from_str_radix(&magnitude[2..], 8),
        Some("0b" | "0B") => i64::from_str_radix(&magnitude[2..], 2),
        _ => magnitude.parse(),
    };
    let value = parsed.ok().with_context(|| format!("Template has a bad number: {}", &text[..end]))?;
    let value = if digits.starts_with('-') { -value } else { value };
    Ok((Kind::Literal(Data::Int(value)), &text[end..]))
}

fn quoted(text: &str, quote: char) -> Result<(Kind, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let kind = match (quote, value.chars().next()) {
                ('\'', Some(one)) if value.chars().count() == 1 => Data::Int(i64::from(u32::from(one))),
                ('\'', _) => bail!("Template has a malformed character constant"),
                _ => Data::Text(value),
            };
            return Ok((Kind::Literal(kind), &text[at + 1..]));
        }
        if c != '\\' || quote == '`' {
            value.push(c);
            continue;
        }
        let escaped = match chars.next().map(|(_, c)| c) {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some(c @ ('\\' | '"' | '\'')) => Some(c),
            Some('x') => code(&mut chars, 2),
            Some('u') => code(&mut chars, 4),
            Some('U') => code(&mut chars, 8),
            _ => None,
        };
        value.push(escaped.context("Template has an unknown escape in a text")?);
    }
    bail!("Template has a text without an end")
}

/// A character as its number of so many hexadecimal digits.
fn code(chars: &mut dyn Iterator<Item = (usize, char)>, digits: usize) -> Option<char> {
    let digits: String = chars.take(digits).map(|(_, c)| c).collect();
    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
}
