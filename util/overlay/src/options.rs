//! Mount options of overlayfs.

use std::path::PathBuf;

/// The layers that the options of an overlay mount name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Read-only layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: Option<PathBuf>,
    /// Work directory.
    pub work: Option<PathBuf>,
}

/// Reads the layers from options of an overlay mount. Other options are passed over. In paths, a
/// backslash takes the next character for what it is.
pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Layers {
    let mut layers = Layers::default();
    for option in options {
        let Some((key, value)) = option.split_once('=') else { continue };
        match key {
            "lowerdir" => layers.lower = split(value).into_iter().map(PathBuf::from).collect(),
            "lowerdir+" => layers.lower.push(PathBuf::from(value)),
            "upperdir" => layers.upper = Some(PathBuf::from(unescape(value))),
            "workdir" => layers.work = Some(PathBuf::from(unescape(value))),
            _ => {}
        }
    }
    layers
}

/// A path as `lowerdir` and its like take it: colons, commas and backslashes with a backslash before.
pub fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, ':' | ',' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn split(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        let last = parts.len() - 1;
        match character {
            '\\' => parts[last].extend(characters.next()),
            ':' => parts.push(String::new()),
            other => parts[last].push(other),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layers_are_read() {
        let layers =
            parse(["rw", "lowerdir=/a\\:b:/c", "upperdir=/u\\,1", "workdir=/w", "index=off", "userxattr"]);
        assert_eq!(layers.lower, [PathBuf::from("/a:b"), PathBuf::from("/c")]);
        assert_eq!(layers.upper, Some(PathBuf::from("/u,1")));
        assert_eq!(layers.work, Some(PathBuf::from("/w")));
        assert_eq!(parse(["lowerdir="]), Layers::default());
    }

    proptest! {
        #[test]
        fn escaping_is_undone(paths in prop::collection::vec("[a-z:,\\\\/]{1,8}", 1..5)) {
            let joined: Vec<_> = paths.iter().map(|path| escape(path)).collect();
            let option = format!("lowerdir={}", joined.join(":"));
            let expect: Vec<_> = paths.iter().map(PathBuf::from).collect();
            prop_assert_eq!(parse([option.as_str()]).lower, expect);
        }

        #[test]
        fn any_text_is_parsed(text in ".{0,64}") {
            parse([text.as_str(), &format!("lowerdir={text}"), &format!("upperdir={text}")]);
        }
    }
}
