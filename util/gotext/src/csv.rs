use std::fmt;

/// Why a text is no line of CSV, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsvError {
    /// There is nothing.
    Empty,
    /// A quote stands in a field that has none at its beginning; and in which byte, from 1.
    BareQuote(usize),
    /// A field in quotes does not end, or not with its quote; and in which byte, from 1.
    Quote(usize),
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (column, what) = match self {
            Self::Empty => return f.write_str("EOF"),
            Self::BareQuote(column) => (column, "bare \" in non-quoted-field"),
            Self::Quote(column) => (column, "extraneous or missing \" in quoted-field"),
        };
        write!(f, "parse error on line 1, column {column}: {what}")
    }
}

impl std::error::Error for CsvError {}

/// The fields of one line of CSV, those in quotes without them.
///
/// # Errors
/// The line is empty, or a quote stands where there may be none.
pub fn csv_fields(line: &str) -> Result<Vec<String>, CsvError> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = Some(line);
    while let Some(field) = rest {
        let column = line.len() - field.len() + 1;
        let (field, behind) = match field.strip_prefix('"') {
            Some(quoted) => in_quotes(quoted).map_err(|at| CsvError::Quote(column + 1 + at))?,
            None => {
                let (field, behind) =
                    field.split_once(',').map_or((field, None), |(field, behind)| (field, Some(behind)));
                if let Some(at) = field.find('"') {
                    return Err(CsvError::BareQuote(column + at));
                }
                (field.to_owned(), behind)
            }
        };
        fields.push(field);
        rest = behind;
    }
    Ok(fields)
}

/// A field whose first quote is read, and what is behind it; or the byte that is wrong.
fn in_quotes(text: &str) -> Result<(String, Option<&str>), usize> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let at = |rest: &str| text.len() - rest.len();
        let (part, behind) = rest.split_once('"').ok_or(at(rest))?;
        field.push_str(part);
        match behind.chars().next() {
            None => return Ok((field, None)),
            Some(',') => return Ok((field, Some(&behind[1..]))),
            Some('"') => field.push('"'),
            Some(_) => return Err(at(behind) - 1),
        }
        rest = &behind[1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_split_as_in_go() {
        for (line, expected) in [
            ("a,b=c", "a|b=c"),
            ("a,", "a|"),
            (",a", "|a"),
            ("\"a,b\",c", "a,b|c"),
            ("a,\"b\"\"c\"", "a|b\"c"),
            ("\"\"", ""),
            ("\"a\",", "a|"),
            ("a\r\n", "a"),
        ] {
            assert_eq!(csv_fields(line).map(|fields| fields.join("|")).as_deref(), Ok(expected), "{line}");
        }
        for (line, expected) in [
            ("", "EOF"),
            ("\n", "EOF"),
            ("a\"b", "parse error on line 1, column 2: bare \" in non-quoted-field"),
            ("x,é\"b", "parse error on line 1, column 5: bare \" in non-quoted-field"),
            ("a,\"b", "parse error on line 1, column 4: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(
                csv_fields(line).map_err(|error| error.to_string()),
                Err(expected.to_owned()),
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn fields_come_back(fields in proptest::collection::vec("[a,\"é\r\n ]{1,4}", 1..5)) {
            let written: Vec<String> =
                fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(csv_fields(&written.join(",")), Ok(fields));
        }
    }
}
