//! Values that hold several, and sizes.

use buildkit_util_gotext::csv_fields;

use crate::Error;

/// The fields of a line of CSV; `what` it holds is for errors.
pub(crate) fn csv(line: &str, what: &'static str) -> Result<Vec<String>, Error> {
    csv_fields(line).map_err(|reason| Error::Csv { what, reason })
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
