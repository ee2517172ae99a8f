//! Which characters the parts of a name may have. Everything is checked by bytes: the grammar is ASCII.

/// Whether text is one component of a repository's path: lower-case letters and digits, with single
/// separators (`.`, `_`, `__` or any number of `-`) between them.
pub(crate) fn is_path_component(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|byte| **byte == b'-').count(),
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

/// Whether text is the host of a registry, with a port or not.
pub(crate) fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        // An address of IPv6; zones are no part of a name.
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                let valid = !address.is_empty()
                    && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
                if !valid {
                    return false;
                }
                ("", port)
            }
            None => return false,
        },
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    port && (text.starts_with('[') || host.split('.').all(is_host_label))
}

fn is_host_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Whether text is a tag: at most 128 letters, digits, `_`, `.` and `-`, the last two not in front.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| word(*byte))
        && bytes.len() <= 128
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_components() {
        for good in ["a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a0-1.2_3__4"] {
            assert!(is_path_component(good), "{good}");
        }
        for bad in ["", "A", "aB", ".a", "a.", "a..b", "a___b", "_a", "-a", "a-", "a._b", "ä", "a b", "a/b"]
        {
            assert!(!is_path_component(bad), "{bad}");
        }
    }

    #[test]
    fn domains() {
        for good in [
            "localhost",
            "a.b",
            "A.b-c",
            "h:1",
            "xn--n3h.com:18080",
            "[::1]",
            "[2001:db8::1]:80",
            "192.168.1.1",
        ] {
            assert!(is_domain(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            "-a",
            "a-",
            "a_b",
            "h:",
            "h:x",
            "[::1",
            "[]",
            "[fe80::1%eth0]",
            "[::1]x",
            "ä.b",
            "a..b",
        ] {
            assert!(!is_domain(bad), "{bad}");
        }
    }

    #[test]
    fn tags() {
        for good in ["latest", "_", "1.0-x", &"t".repeat(128)] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".1", "-1", "a:b", "a b", "ä", &"t".repeat(129)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
