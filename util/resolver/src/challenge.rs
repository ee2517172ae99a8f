//! What registries want to see before they answer: `WWW-Authenticate` (RFC 9110, 11.6.1).

/// Bytes of one header that are looked at.
const MAX_HEADER: usize = 8 << 10;
/// Parameters of one challenge.
const MAX_PARAMETERS: usize = 32;

/// How to say who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// With a token (RFC 6750, and the token specification of the distribution registry).
    Bearer(Bearer),
    /// With a user name and a password.
    Basic,
}

/// Where a token comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bearer {
    /// URL that gives tokens.
    pub realm: String,
    /// Name that the registry has there.
    pub service: String,
    /// What the token must be good for, as the registry sees it.
    pub scope: String,
    /// Why the token that was shown is not good.
    pub error: String,
}

impl Challenge {
    /// The best of the challenges in headers: a token before a password. Headers that cannot be read, or
    /// name other schemes, are passed over.
    pub fn best<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut best = None;
        for header in headers.into_iter().take(16) {
            for challenge in parse(header) {
                match challenge {
                    Self::Bearer(_) => return Some(challenge),
                    Self::Basic => best = Some(challenge),
                }
            }
        }
        best
    }
}

/// The challenges in one header. What comes after something that cannot be read does not count.
fn parse(header: &[u8]) -> Vec<Challenge> {
    let mut found = Vec::new();
    let Some(text) = header.get(..header.len().min(MAX_HEADER)).and_then(|text| str::from_utf8(text).ok())
    else {
        return found;
    };
    if header.len() > MAX_HEADER {
        return found;
    }
    let mut rest = skip(text);
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() || !(after.is_empty() || after.starts_with([' ', '\t', ','])) {
            return found;
        }
        let (parameters, after) = parameters(after);
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(bearer) = bearer(parameters) {
                found.push(Challenge::Bearer(bearer));
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        }
        let Some(after) = after else { return found };
        rest = skip(after);
    }
    found
}

fn bearer(parameters: Vec<(String, String)>) -> Option<Bearer> {
    let mut bearer = Bearer::default();
    for (key, value) in parameters {
        let place = match key.as_str() {
            "realm" => &mut bearer.realm,
            "service" => &mut bearer.service,
            "scope" => &mut bearer.scope,
            "error" => &mut bearer.error,
            _ => continue,
        };
        // Twice is once too often: nobody knows which is meant.
        if !place.is_empty() {
            return None;
        }
        *place = value;
    }
    (!bearer.realm.is_empty()).then_some(bearer)
}

/// Parameters, and what stands behind them: nothing, if it cannot be read.
fn parameters(text: &str) -> (Vec<(String, String)>, Option<&str>) {
    let (mut found, mut rest) = (Vec::new(), skip(text));
    loop {
        if rest.is_empty() {
            return (found, Some(rest));
        }
        let (key, after) = token(rest);
        // Without a sign of equality it is the scheme of the next challenge.
        let Some(after) = space(after).strip_prefix('=') else { return (found, Some(rest)) };
        if key.is_empty() || found.len() == MAX_PARAMETERS {
            return (found, None);
        }
        let Some((value, after)) = value(space(after)) else { return (found, None) };
        found.push((key.to_ascii_lowercase(), value));
        let after = space(after);
        if !after.is_empty() && !after.starts_with(',') {
            return (found, None);
        }
        rest = skip(after);
    }
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c if c.is_control() && c != '\t' => return None,
            c => value.push(c),
        }
    }
    None
}

fn token(text: &str) -> (&str, &str) {
    let is_separator = |c: char| !c.is_ascii_graphic() || "\"(),/:;<=>?@[\\]{}".contains(c);
    text.split_at(text.find(is_separator).unwrap_or(text.len()))
}

/// What follows after white space.
fn space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// What follows after white space and commas.
fn skip(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', ','])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn best(headers: &[&str]) -> Option<Challenge> {
        Challenge::best(headers.iter().map(|header| header.as_bytes()))
    }

    fn of(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            scope: scope.to_owned(),
            error: String::new(),
        })
    }

    #[test]
    fn challenges_of_registries() {
        for (headers, expect) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#,
                ][..],
                Some(of(
                    "https://auth.docker.io/token",
                    "registry.docker.io",
                    "repository:library/x:pull,push",
                )),
            ),
            (&[r#"bearer REALM = "r" , x=y"#], Some(of("r", "", ""))),
            (&[r#"Bearer realm="a\"b\\""#], Some(of(r#"a"b\"#, "", ""))),
            (&[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (&[r#"Basic realm="x""#, r#"Bearer realm="y""#], Some(of("y", "", ""))),
            (&[r#"Basic realm="x", Bearer realm="y",service=s"#], Some(of("y", "s", ""))),
            (&[r#"Negotiate, Basic realm="x""#], Some(Challenge::Basic)),
            (&[r#"Digest realm="x", nonce="y""#], None),
            (&["Bearer"], None),
            (&[r#"Bearer service="x""#], None),
            (&[r#"Bearer realm="x"#], None),
            (&[r#"Bearer realm="x" service="y""#], Some(of("x", "", ""))),
            (&[r#"Bearer realm="x",realm="y""#], None),
            (&["Bearer realm="], None),
            (&["Bearer realm=\"a\nb\""], None),
            (&["", ",", "=", "\"", "Bearer=x"], None),
        ] {
            assert_eq!(best(headers), expect, "{headers:?}");
        }
    }

    #[test]
    fn hostile_challenges_are_bounded() {
        let long = format!(r#"Bearer realm="{}""#, "x".repeat(MAX_HEADER));
        assert_eq!(best(&[&long]), None);
        let many = format!(r#"Bearer {} realm="x""#, "a=b,".repeat(100));
        assert_eq!(best(&[&many]), None);
        assert_eq!(best(&vec!["Digest x=y"; 10_000]), None);
        assert_eq!(Challenge::best([&b"Bearer realm=\"\xff\""[..]]), None);
    }

    proptest! {
        #[test]
        fn nothing_ends_the_parser(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Challenge::best([header.as_slice()]);
        }

        #[test]
        fn quoted_values_come_back(realm in "[ -~]{1,40}") {
            let quoted = realm.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(best(&[&format!("Bearer realm=\"{quoted}\"")]), Some(of(&realm, "", "")));
        }
    }
}
