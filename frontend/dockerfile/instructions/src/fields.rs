//! Values that hold several: one line of CSV, truth values, sizes.

use crate::Error;

const BARE_QUOTE: &str = "bare \" in non-quoted-field";
const LOOSE_QUOTE: &str = "extraneous or missing \" in quoted-field";

/// The fields of a line of CSV; `what` it holds is for errors.
pub(crate) fn csv(line: &str, what: &'static str) -> Result<Vec<String>, Error> {
    split(line).map_err(|reason| Error::Csv { what, reason })
}

fn split(line: &str) -> Result<Vec<String>, String> {
    let error = |at: usize, text| Err(format!("parse error on line 1, column {}: {text}", at + 1));
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = &line[at..];
        let Some(mut inner) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(quote) = rest[..end].find('"') {
                return error(at + quote, BARE_QUOTE);
            }
            fields.push(rest[..end].to_owned());
            at += end + 1;
            if end == rest.len() {
                return Ok(fields);
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let Some(quote) = inner.find('"') else {
                return error(line.len() - inner.len(), LOOSE_QUOTE);
            };
            field.push_str(&inner[..quote]);
            inner = &inner[quote + 1..];
            match inner.chars().next() {
                Some('"') => {
                    field.push('"');
                    inner = &inner[1..];
                }
                Some(',') => break,
                None => break,
                Some(_) => return error(line.len() - inner.len() - 1, LOOSE_QUOTE),
            }
        }
        fields.push(field);
        if inner.is_empty() {
            return Ok(fields);
        }
        at = line.len() - inner.len() + 1;
    }
}

/// A truth value in one of Go's spellings.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size in bytes as `10m`, `1.5 GiB` or `1024`: units are powers of 1024, in any case.
pub(crate) fn parse_size(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, suffix) = (&text[..=last], &text[last + 1..]);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let exponent = match suffix.to_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    Some((number * 1024_f64.powi(exponent)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_in_go() {
        let fields = |line| split(line).map(|fields| fields.join("|"));
        for (line, expected) in [
            ("a,b=c", "a|b=c"),
            ("a,", "a|"),
            (",a", "|a"),
            ("\"a,b\",c", "a,b|c"),
            ("a,\"b\"\"c\"", "a|b\"c"),
            ("\"\"", ""),
            ("a\r\n", "a"),
        ] {
            assert_eq!(fields(line).as_deref(), Ok(expected), "{line}");
        }
        for (line, expected) in [
            ("", "EOF"),
            ("a\"b", "parse error on line 1, column 2: bare \" in non-quoted-field"),
            ("a,\"b", "parse error on line 1, column 4: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(split(line), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1.5k", Some(1536)),
            ("10 MiB", Some(10 << 20)),
            ("2gb", Some(2 << 30)),
            ("1b", Some(1)),
            ("-1", None),
            ("x", None),
            ("1zb", None),
            ("1kbb", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
