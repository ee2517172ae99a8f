/// A text in which each `*` stands for any text.
#[derive(Debug)]
pub(crate) struct Wildcard {
    /// What stands between the stars; one part is a text without any.
    parts: Vec<String>,
}

impl Wildcard {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("**") {
            return Err(format!("failed to translate wildcard {text:?} to regexp: invalid wildcard: \"**\""));
        }
        Ok(Self { parts: text.split('*').map(str::to_owned).collect() })
    }

    /// What the stars stand for in a text that matches: each for as much as those before it leave, as in `(.*)`.
    pub(crate) fn groups<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let (first, rest) = self.parts.split_first()?;
        let Some((last, between)) = rest.split_last() else {
            return (text == first).then(Vec::new);
        };
        let mut left = text.strip_prefix(first.as_str())?.strip_suffix(last.as_str())?;
        // As far to the right as possible makes the stars on the left as long as possible.
        let mut groups = Vec::with_capacity(self.parts.len());
        for part in between.iter().rev() {
            let at = left.rfind(part.as_str())?;
            groups.push(&left[at + part.len()..]);
            left = &left[..at];
        }
        groups.push(left);
        groups.reverse();
        Some(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn groups<'t>(wildcard: &str, text: &'t str) -> Option<Vec<&'t str>> {
        Wildcard::parse(wildcard).expect("a wildcard").groups(text)
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (wildcard, text, want) in [
            ("a", "a", Some(vec![])),
            ("a", "ab", None),
            ("", "", Some(vec![])),
            ("*", "", Some(vec![""])),
            ("*", "a\nb", Some(vec!["a\nb"])),
            ("a*", "abc", Some(vec!["bc"])),
            ("*c", "abc", Some(vec!["ab"])),
            ("a*a", "a", None),
            ("a*a", "aa", Some(vec![""])),
            ("a*b*c", "abbc", Some(vec!["b", ""])),
            ("*/*:*", "x/y/z:1:2", Some(vec!["x/y", "z:1", "2"])),
            ("x:*@*", "x:1", None),
            (".*", "aa", None),
            ("é*ü", "éaü", Some(vec!["a"])),
        ] {
            assert_eq!(groups(wildcard, text), want, "{wildcard} {text}");
        }
        let error = Wildcard::parse("a**").expect_err("two stars");
        assert_eq!(error, "failed to translate wildcard \"a**\" to regexp: invalid wildcard: \"**\"");
    }

    proptest! {
        /// What upstream translates a wildcard to says which groups there are.
        #[test]
        fn groups_are_those_of_a_regex(wildcard in "[ab*]{0,8}", text in "[ab]{0,12}") {
            prop_assume!(!wildcard.contains("**"));
            let regex = format!("(?s)^{}$", regex::escape(&wildcard).replace("\\*", "(.*)"));
            let regex = regex::Regex::new(&regex).expect("a regex");
            let want = regex.captures(&text).map(|captures| {
                captures.iter().skip(1).map(|group| group.map_or("", |group| group.as_str())).collect::<Vec<_>>()
            });
            prop_assert_eq!(groups(&wildcard, &text), want);
        }
    }
}
