use std::collections::BTreeSet;

use buildkit_util_cachedigest::Digest;

use super::Selector;

/// Leaves out paths below other paths of the list, and repetitions. Sorted, unless there is one.
pub(super) fn dedupe_paths(paths: Vec<String>) -> Vec<String> {
    if paths.len() <= 1 {
        return paths;
    }
    let all: BTreeSet<String> = paths.into_iter().collect();
    let below_another = |path: &str| {
        path.match_indices('/').any(|(slash, _)| {
            let (parent, parent_slash) = (&path[..slash], &path[..=slash]);
            all.contains(parent) || (parent_slash != path && all.contains(parent_slash))
        })
    };
    all.iter().filter(|path| !below_another(path)).cloned().collect()
}

/// One selector per part of the tree, each part once.
pub(super) fn dedupe(selectors: &[Selector]) -> Vec<Selector> {
    let plain = |follow: bool| {
        let paths = selectors
            .iter()
            .filter(|selector| !selector.has_wildcard_or_filters())
            .filter(|selector| selector.follow_links == follow)
            .map(|selector| selector.path.clone())
            .collect();
        dedupe_paths(paths).into_iter().map(move |path| Selector {
            path,
            follow_links: follow,
            ..Selector::default()
        })
    };
    let filtered = selectors.iter().filter(|selector| selector.has_wildcard_or_filters()).cloned();
    let mut out: Vec<Selector> = plain(false).chain(plain(true)).chain(filtered).collect();
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

/// The digest of some paths in a given order.
pub(super) fn digest<'a>(paths: impl IntoIterator<Item = &'a str>) -> Digest {
    let mut text = String::new();
    for (at, path) in paths.into_iter().enumerate() {
        if at > 0 {
            text.push('\0');
        }
        text.push_str(path);
    }
    Digest::sha256(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<String> {
        list.iter().map(|&path| path.to_owned()).collect()
    }

    #[test]
    fn paths_below_others_go() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["b"], &["b"]),
            (&["b", "a", "b"], &["a", "b"]),
            (&["/foo", "/foobar", "/foo/bar"], &["/foo", "/foobar"]),
            (&["/", "/a", "/a/b"], &["/"]),
            (&["", "/a"], &[""]),
            (&["", "a"], &["", "a"]),
            (&["a/", "a"], &["a"]),
            (&["a/", "a/b", "a//c"], &["a/"]),
        ];
        for (list, expected) in cases {
            assert_eq!(dedupe_paths(paths(list)), paths(expected), "{list:?}");
        }
    }

    proptest::proptest! {
        // The definition, which takes time in the square of the number of paths.
        #[test]
        fn the_definition_agrees(list in proptest::collection::vec("[ab/]{0,4}", 2..12)) {
            let all: BTreeSet<String> = list.iter().cloned().collect();
            let parent = |path: &String| if path.ends_with('/') { path.clone() } else { format!("{path}/") };
            let expected: Vec<String> = all
                .iter()
                .filter(|path| !all.iter().any(|other| other != *path && path.starts_with(&parent(other))))
                .cloned()
                .collect();
            proptest::prop_assert_eq!(dedupe_paths(list), expected);
        }
    }
}
