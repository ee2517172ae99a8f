use serde_json::value::RawValue;

use crate::Word;
use crate::span::Span;

/// What arguments in brackets are.
pub(crate) enum Json {
    /// The strings of an array.
    Strings(Vec<Word>),
    /// An array with something else, and where that is.
    OtherArray(usize),
    /// No array: a line that only looks like one.
    No,
}

/// Reads arguments as a JSON array of strings.
pub(crate) fn string_array(rest: Span<'_>) -> Json {
    let rest = rest.trim_start();
    if !rest.text.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(rest.text) else { return Json::No };
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        // The raw values are parts of the text.
        let offset = rest.at + (value.get().as_ptr() as usize).saturating_sub(rest.text.as_ptr() as usize);
        match string(value.get()) {
            Some(text) => words.push(Word { text, offset }),
            None => return Json::OtherArray(offset),
        }
    }
    Json::Strings(words)
}

/// The text of a JSON string, in which halves of surrogate pairs become U+FFFD.
fn string(raw: &str) -> Option<String> {
    let inner = raw.strip_prefix('"')?;
    if let Ok(text) = serde_json::from_str(raw) {
        return Some(text);
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner.strip_suffix('"')?;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at..];
        // An escape is two bytes, six with a code, twelve with both halves of a pair.
        let len = [12, 6, 2].into_iter().find_map(|len| {
            let escape = escape.get(..len)?;
            serde_json::from_str::<String>(&format!("\"{escape}\""))
                .ok()
                .filter(|it| it.chars().count() == 1)?;
            Some(len)
        });
        match len {
            Some(len) => {
                out.push_str(&serde_json::from_str::<String>(&format!("\"{}\"", &escape[..len])).ok()?);
                rest = &escape[len..];
            }
            None => {
                out.push('\u{fffd}');
                rest = escape.get(6..)?;
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_keep_their_places() {
        let Json::Strings(words) = string_array(Span { text: r#" [ "a" ,"\u00e9b"]"#, at: 4 }) else {
            panic!("an array of strings");
        };
        let words: Vec<(&str, usize)> = words.iter().map(|word| (&*word.text, word.offset)).collect();
        assert_eq!(words, [("a", 7), ("éb", 12)]);
    }

    #[test]
    fn halves_of_pairs_are_replaced() {
        for (raw, expected) in [
            (r#""a\ud800b""#, "a\u{fffd}b"),
            (r#""\ud83d\ude00\udc00\n\"""#, "😀\u{fffd}\n\""),
            (r#""\ud800\ud83d\ude00""#, "\u{fffd}😀"),
        ] {
            assert_eq!(string(raw).as_deref(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn what_is_no_array_of_strings() {
        for text in ["", "x", "[x]", "['a']", "[\"a\",]", "[\"a\"] b", "[\"a\" \"b\"]", "{}"] {
            assert!(matches!(string_array(Span::new(text)), Json::No), "{text}");
        }
        for (text, at) in [("[1]", 1), ("[\"a\", null]", 6), ("[[]]", 1), ("[{}]", 1)] {
            assert!(matches!(string_array(Span::new(text)), Json::OtherArray(is) if is == at), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
        assert!(!matches!(string_array(Span::new(&deep)), Json::Strings(_)));
    }
}
