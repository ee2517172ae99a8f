//! Texts that options have in Go's forms, with Go's words for what is wrong.

use buildkit_frontend_dockerfile_shell::quoted;

use crate::OptionError;

/// `strconv.ParseInt`.
pub(crate) fn parse_int(text: &str) -> Result<i64, OptionError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    number("ParseInt", text, digits, text.parse())
}

/// `strconv.ParseUint`.
pub(crate) fn parse_uint(text: &str) -> Result<u64, OptionError> {
    number("ParseUint", text, text, text.parse())
}

fn number<T, E>(function: &str, text: &str, digits: &str, parsed: Result<T, E>) -> Result<T, OptionError> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match parsed {
        Ok(number) if is_number => Ok(number),
        _ => {
            let reason = if is_number { "value out of range" } else { "invalid syntax" };
            Err(OptionError::new(format!("strconv.{function}: parsing {}: {reason}", quoted(text))))
        }
    }
}

/// `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The fields of one line of CSV, quoted ones without their quotes.
pub(crate) fn csv_fields(line: &str) -> Result<Vec<String>, OptionError> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(OptionError::new("EOF"));
    }
    let error = |at: usize, reason: &str| {
        OptionError::new(format!("parse error on line 1, column {}: {reason}", at + 1))
    };
    const OPEN: &str = "extraneous or missing \" in quoted-field";
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let at = |rest: &str| line.len() - rest.len();
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, next) =
                rest.split_once(',').map_or((rest, None), |(field, next)| (field, Some(next)));
            if let Some(quote) = field.find('"') {
                return Err(error(at(rest) + quote, "bare \" in non-quoted field"));
            }
            fields.push(field.to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        rest = loop {
            let Some((text, after)) = quoted.split_once('"') else { return Err(error(at(quoted), OPEN)) };
            field.push_str(text);
            match after.chars().next() {
                Some('"') => {
                    field.push('"');
                    quoted = &after[1..];
                }
                Some(',') => break &after[1..],
                None => {
                    fields.push(field);
                    return Ok(fields);
                }
                Some(_) => return Err(error(at(after) - 1, OPEN)),
            }
        };
        fields.push(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_int("-12"), Ok(-12));
        assert_eq!(parse_int("+12"), Ok(12));
        for (text, error) in [
            ("", "strconv.ParseInt: parsing \"\": invalid syntax"),
            ("1k", "strconv.ParseInt: parsing \"1k\": invalid syntax"),
            ("-", "strconv.ParseInt: parsing \"-\": invalid syntax"),
            ("9223372036854775808", "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"),
        ] {
            assert_eq!(parse_int(text).unwrap_err().to_string(), error);
        }
        assert_eq!(parse_uint("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(
            parse_uint("+1").unwrap_err().to_string(),
            "strconv.ParseUint: parsing \"+1\": invalid syntax"
        );
    }

    #[test]
    fn fields() {
        for (line, fields) in [
            ("a", vec!["a"]),
            ("a,b,", vec!["a", "b", ""]),
            ("\"a,b\",c\r\n", vec!["a,b", "c"]),
            ("\"say \"\"hi\"\"\",x", vec!["say \"hi\"", "x"]),
            ("\"\"", vec![""]),
        ] {
            assert_eq!(csv_fields(line).unwrap(), fields, "{line}");
        }
        for (line, error) in [
            ("", "EOF"),
            ("\n", "EOF"),
            ("a,b\"c", "parse error on line 1, column 4: bare \" in non-quoted field"),
            ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
            ("x,\"ab", "parse error on line 1, column 4: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(csv_fields(line).unwrap_err().to_string(), error, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "[a,\"\\r\\né=]{0,24}") {
            let _ = csv_fields(&line);
        }
    }
}
