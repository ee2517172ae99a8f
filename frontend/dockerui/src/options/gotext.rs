//! Texts that options have in Go's forms, with Go's words for what is wrong.

use buildkit_util_gotext::quoted;

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

/// The fields of one line of CSV, quoted ones without their quotes.
pub(crate) fn csv_fields(line: &str) -> Result<Vec<String>, OptionError> {
    buildkit_util_gotext::csv_fields(line).map_err(|error| OptionError::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
