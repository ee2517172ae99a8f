//! Finds what was probably meant by a mistyped word.
//!
//! ```
//! assert_eq!(buildkit_util_suggest::search("CPOY", ["copy", "run"], false).as_deref(), Some("COPY"));
//! assert_eq!(buildkit_util_suggest::search("copy", ["copy", "run"], false), None);
//! ```
#![forbid(unsafe_code)]

/// As many edits away, a word is another one.
const TOO_FAR: usize = 3;
/// Words of more bytes have nothing near them: to compare two takes as long as both are, multiplied.
const TOO_LONG: usize = 256;

/// The option nearest to `value`, the first of those equally near; `None` when `value` is an option itself
/// or none is near. Unless case matters, the answer is in the case of `value`, where that has one.
pub fn search<S: AsRef<str>>(
    value: &str,
    options: impl IntoIterator<Item = S>,
    case_sensitive: bool,
) -> Option<String> {
    if value.len() > TOO_LONG {
        return None;
    }
    let in_case = |text: &str| if case_sensitive { text.to_owned() } else { text.to_lowercase() };
    let wanted = in_case(value);
    let mut nearest: Option<(usize, String)> = None;
    for option in options {
        let option = option.as_ref();
        if option.len() > TOO_LONG {
            continue;
        }
        let option = in_case(option);
        if option == wanted {
            return None;
        }
        // As many characters of difference are as many edits at least.
        if option.chars().count().abs_diff(wanted.chars().count()) >= TOO_FAR {
            continue;
        }
        let distance = strsim::levenshtein(&wanted, &option);
        if distance < nearest.as_ref().map_or(TOO_FAR, |(distance, _)| *distance) {
            nearest = Some((distance, option));
        }
    }
    let (_, found) = nearest.filter(|(_, found)| !found.is_empty())?;
    Some(if !case_sensitive && value == value.to_uppercase() && value != value.to_lowercase() {
        found.to_uppercase()
    } else {
        found
    })
}

/// Longer words than names of files are not compared.
const MAX_NAME: usize = 255;

/// The names that may have been meant by `value`, at most `count`, nearest first and then by name. Case does not
/// count, and of a long name more may be wrong than of a short one. A name that is `value` itself is among them.
///
/// ```
/// let names = ["README.md", "main.rs", "readme.txt"];
/// assert_eq!(buildkit_util_suggest::nearest("readme.md", names, 3), ["README.md", "readme.txt"]);
/// ```
pub fn nearest<S: AsRef<str>>(value: &str, names: impl IntoIterator<Item = S>, count: usize) -> Vec<String> {
    let wanted = value.to_lowercase();
    let length = wanted.chars().count();
    if length > MAX_NAME {
        return Vec::new();
    }
    let too_far = (length / 2).clamp(2, 2 * TOO_FAR);
    let mut found: Vec<(usize, String)> = Vec::new();
    for name in names {
        let name = name.as_ref();
        if name.len() > MAX_NAME {
            continue;
        }
        let lower = name.to_lowercase();
        if lower.chars().count().abs_diff(length) >= too_far {
            continue;
        }
        let distance = strsim::osa_distance(&wanted, &lower);
        if distance < too_far {
            found.push((distance, name.to_owned()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, name)| name).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_names_are_near() {
        let names = ["app.js", "app.ts", "apps", "main.go", "package-lock.json", "APP.JSX"];
        for (value, expected) in [
            ("app.jsx", &["APP.JSX", "app.js"][..]),
            ("packaeg-lock.jsn", &["package-lock.json"]),
            ("mian.go", &["main.go"]),
            ("x", &[]),
            ("", &[]),
        ] {
            assert_eq!(nearest(value, names, 2), expected, "{value}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), ["x"], 1), Vec::<String>::new());
        assert_eq!(nearest("xx", ["x".repeat(1 << 20)], 1), Vec::<String>::new());
    }

    #[test]
    fn the_nearest_is_found() {
        let options = ["target", "type", "from", "readonly"];
        for (value, expected) in [
            ("tagret", Some("target")),
            ("typ", Some("type")),
            ("form", Some("from")),
            ("Type", Some("type")),
            ("type", None),
            ("readonlyxyz", None),
            ("something", None),
            ("", None),
        ] {
            assert_eq!(search(value, options, true).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn answers_have_the_case_of_the_question() {
        for (value, expected) in [("expos", "expose"), ("EXPOS", "EXPOSE"), ("Expos", "expose")] {
            assert_eq!(search(value, ["EXPOSE"], false).as_deref(), Some(expected));
        }
        assert_eq!(search("Expose", ["EXPOSE"], false), None);
    }

    /// The table of distances is as large as both words multiplied.
    #[test]
    fn long_words_are_not_compared() {
        assert_eq!(search(&"x".repeat(1 << 20), ["copy"; 1000], true), None);
        let (long, other) = ("x".repeat(1 << 20), format!("{}y", "x".repeat(1 << 20)));
        assert_eq!(search(&long, [other.as_str(); 1000], true), None);
    }
}
