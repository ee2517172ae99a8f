//! Texts in the form in which Go writes values, as histories of images have them.

pub(crate) use buildkit_util_gotext::quoted;

/// A list of words as Go's `%v`.
pub(crate) fn words<S: AsRef<str>>(words: &[S]) -> String {
    format!("[{}]", words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "))
}

/// A list of words as Go's `%q`.
pub(crate) fn quoted_words<S: AsRef<str>>(list: &[S]) -> String {
    words(&list.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_go_does() {
        assert_eq!(quoted_words(&["a b", "c\"d\\\n\t\u{1}"]), r#"["a b" "c\"d\\\n\t\x01"]"#);
        assert_eq!(words::<&str>(&[]), "[]");
    }
}
