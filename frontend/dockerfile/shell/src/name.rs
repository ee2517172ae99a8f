use std::sync::LazyLock;

use regex::Regex;

use crate::cursor::Cursor;

static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());

/// Reads the name of a variable: letters, digits and `_`; or digits only, when it begins with one; or one
/// special parameter of POSIX shells. Empty when there is none.
pub(crate) fn read_name(cursor: &mut Cursor<'_>) -> String {
    let mut name = String::new();
    let Some(first) = cursor.peek() else { return name };
    let is_part: fn(char) -> bool = if is_digit(first) {
        is_digit
    } else if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
        cursor.next();
        return first.to_string();
    } else {
        |c| c == '_' || is_letter(c) || is_digit(c)
    };
    while let Some(c) = cursor.peek().filter(|c| is_part(*c)) {
        name.push(c);
        cursor.next();
    }
    name
}

fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { is_in(&LETTER, c) }
}

fn is_digit(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { is_in(&DIGIT, c) }
}

fn is_in(class: &Option<Regex>, c: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}
