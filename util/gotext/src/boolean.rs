/// A truth value in one of the spellings that Go's `strconv.ParseBool` takes.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_spellings_are_truth_values() {
        assert_eq!(["1", "True", "t"].map(parse_bool), [Some(true); 3]);
        assert_eq!(["0", "FALSE", "f"].map(parse_bool), [Some(false); 3]);
        assert_eq!(["", "yes", "tRUE", " true"].map(parse_bool), [None; 4]);
    }
}
