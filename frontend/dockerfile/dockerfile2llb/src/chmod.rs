/// Whether a text is a change of permission bits in the words of chmod(1), such as `u=rwX,go-w`.
pub(crate) fn is_symbolic(text: &str) -> bool {
    !text.is_empty() && text.split(',').all(is_clause)
}

fn is_clause(text: &str) -> bool {
    let changes = text.trim_start_matches(['a', 'u', 'g', 'o']);
    changes.starts_with(['+', '-', '='])
        && changes
            .chars()
            .all(|c| matches!(c, '+' | '-' | '=' | 'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_modes() {
        for text in ["u+x", "a=rwX,go-w", "+x", "=", "u=g+s", "o+t", "ug+rw-x"] {
            assert!(is_symbolic(text), "{text}");
        }
        for text in ["", "u", "x", "u+x,", ",u+x", "u+z", "u x", "755", "+7"] {
            assert!(!is_symbolic(text), "{text}");
        }
    }
}
