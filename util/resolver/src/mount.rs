//! Which repository of a registry a blob is taken from.

/// The repository that has most of its path in common with the one to push to: most likely to be
/// readable by the same people.
pub(crate) fn best_source<'a>(repository: &str, sources: &'a [String]) -> Option<&'a str> {
    let common = |other: &str| {
        repository.split('/').zip(other.split('/')).take_while(|(one, other)| one == other).count()
    };
    // They come from annotations: only names of repositories may get into a URL.
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/'))
            && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
    };
    let sources = sources.iter().map(String::as_str);
    sources.filter(|name| *name != repository && is_name(name)).max_by_key(|name| common(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_repository_is_mounted_from() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (sources, expect) in [
            (&["x/y", "team/a/c", "team/b"][..], Some("team/a/c")),
            (&["team/a/b"], None),
            (&[], None),
            (&["../../x", "a?b", "a&from=c", "A", "a//b", ""], None),
        ] {
            assert_eq!(best_source("team/a/b", &of(sources)), expect, "{sources:?}");
        }
    }
}
