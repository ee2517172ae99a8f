use crate::quoted;

/// A truth value in one of the spellings that Go's `strconv.ParseBool` takes.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Why a text is no truth value, in Go's words.
pub fn bool_error(text: &str) -> String {
    format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_spellings_are_truth_values() {
        assert_eq!(["1", "True", "t"].map(parse_bool), [Some(true); 3]);
        assert_eq!(["0", "FALSE", "f"].map(parse_bool), [Some(false); 3]);
        assert_eq!(["", "yes", "tRUE", " true"].map(parse_bool), [None; 4]);
        assert_eq!(bool_error("a\"b"), r#"strconv.ParseBool: parsing "a\"b": invalid syntax"#);
    }
}
