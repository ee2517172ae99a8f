//! Reads a regular expression by the rules of Go's `regexp/syntax` (Perl flags) and writes the same
//! language in the syntax of the `regex` crate.
//!
//! Only what patterns can become is read: groups come in the one form `(.*/)?`, and flags never.
//! What Go refuses is refused here. Patterns let some of Go's syntax through that they do not mean
//! (`|`, `{2}`, `\d`); upstream users' files depend on what that does, so it does the same here.

use std::fmt::Write as _;

use crate::Error;

/// Go's limit of counted repetitions.
const MAX_REPEAT: u32 = 1000;

struct Reader<'a> {
    input: &'a [char],
    at: usize,
    output: String,
}

/// The same expression for the `regex` crate.
pub(crate) fn translate(go: &str) -> Result<String, Error> {
    let input: Vec<char> = go.chars().collect();
    let mut reader = Reader { input: &input, at: 0, output: String::with_capacity(go.len() + 16) };
    reader.expression()?;
    Ok(reader.output)
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.input.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.input.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn literal(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(c) if c.is_ascii_alphanumeric() || c == '/' => self.output.push(c),
            Some(_) => write!(self.output, "\\x{{{code:x}}}").unwrap_or_default(),
            // A surrogate is in no text.
            None => self.output.push_str("[^\\x00-\\x{10FFFF}]"),
        }
    }

    fn expression(&mut self) -> Result<(), Error> {
        // Whether there is something that a repetition can repeat, and whether that is one itself.
        let (mut operand, mut repeated) = (false, false);
        while let Some(c) = self.next() {
            let mut repeats = false;
            match c {
                '^' => self.output.push('^'),
                '$' => self.output.push('$'),
                '.' => self.output.push('.'),
                '(' => {
                    self.output.push_str("(?:");
                    operand = false;
                    repeated = false;
                    continue;
                }
                ')' => self.output.push(')'),
                '|' => {
                    self.output.push('|');
                    operand = false;
                    repeated = false;
                    continue;
                }
                '*' | '+' | '?' => {
                    self.repeatable(operand, repeated)?;
                    self.output.push(c);
                    repeats = true;
                }
                '{' => match self.counts() {
                    None => self.literal('{' as u32),
                    Some((min, max)) => {
                        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || min > max) {
                            return Err(Error::BadPattern);
                        }
                        self.repeatable(operand, repeated)?;
                        match max {
                            Some(max) => write!(self.output, "{{{min},{max}}}"),
                            None => write!(self.output, "{{{min},}}"),
                        }
                        .unwrap_or_default();
                        repeats = true;
                    }
                },
                '[' => self.class()?,
                '\\' => self.escape()?,
                other => self.literal(other as u32),
            }
            if repeats && self.peek() == Some('?') {
                self.at += 1;
                self.output.push('?');
            }
            operand = true;
            repeated = repeats;
        }
        Ok(())
    }

    fn repeatable(&self, operand: bool, repeated: bool) -> Result<(), Error> {
        if operand && !repeated { Ok(()) } else { Err(Error::BadPattern) }
    }

    /// `min}`, `min,}` or `min,max}` after a brace; otherwise nothing is read.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let start = self.at;
        let found = (|| {
            let min = self.number()?;
            let max = if self.peek() == Some(',') {
                self.at += 1;
                if self.peek() == Some('}') { None } else { Some(self.number()?) }
            } else {
                Some(min)
            };
            (self.next() == Some('}')).then_some((min, max))
        })();
        if found.is_none() {
            self.at = start;
        }
        found
    }

    /// A decimal number without needless zeros; one that is too big is the greatest number.
    fn number(&mut self) -> Option<u32> {
        let start = self.at;
        let mut value = 0u32;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            value = value.saturating_mul(10).saturating_add(digit);
            self.at += 1;
        }
        let digits = self.at - start;
        (digits > 0 && (digits == 1 || self.input[start] != '0')).then_some(value)
    }

    /// What follows a backslash outside of a class.
    fn escape(&mut self) -> Result<(), Error> {
        let Some(c) = self.peek() else { return Err(Error::BadPattern) };
        match c {
            'A' | 'z' => {
                self.at += 1;
                self.output.push_str(if c == 'A' { "\\A" } else { "\\z" });
            }
            'b' | 'B' => {
                self.at += 1;
                write!(self.output, "(?-u:\\{c})").unwrap_or_default();
            }
            'Q' => {
                self.at += 1;
                while let Some(c) = self.next() {
                    if c == '\\' && self.peek() == Some('E') {
                        self.at += 1;
                        break;
                    }
                    self.literal(c as u32);
                }
            }
            _ => {
                self.output.push('[');
                if self.named_class()? {
                    self.output.push(']');
                } else {
                    self.output.pop();
                    let code = self.character_escape()?;
                    self.literal(code);
                }
            }
        }
        Ok(())
    }

    /// `d`, `pL`, `p{Greek}` and the like after a backslash; `false` when it is something else.
    fn named_class(&mut self) -> Result<bool, Error> {
        let Some(c) = self.peek() else { return Ok(false) };
        let text = match c {
            'd' => "0-9",
            'D' => "[^0-9]",
            's' => "\\t\\n\\x0c\\r\\x20",
            'S' => "[^\\t\\n\\x0c\\r\\x20]",
            'w' => "0-9A-Za-z_",
            'W' => "[^0-9A-Za-z_]",
            'p' | 'P' => {
                self.at += 1;
                let mut name = String::new();
                match self.next() {
                    Some('{') => loop {
                        match self.next() {
                            Some('}') => break,
                            Some(c) => name.push(c),
                            None => return Err(Error::BadPattern),
                        }
                    },
                    Some(c) => name.push(c),
                    None => return Err(Error::BadPattern),
                }
                let (negated, name) = match name.strip_prefix('^') {
                    Some(rest) => (c == 'p', rest),
                    None => (c == 'P', name.as_str()),
                };
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return Err(Error::BadPattern);
                }
                write!(self.output, "\\{}{{{name}}}", if negated { 'P' } else { 'p' }).unwrap_or_default();
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.at += 1;
        self.output.push_str(text);
        Ok(true)
    }

    /// The character that the text after a backslash stands for.
    fn character_escape(&mut self) -> Result<u32, Error> {
        let c = self.next().ok_or(Error::BadPattern)?;
        Ok(match c {
            '0'..='7' => {
                if c != '0' && !matches!(self.peek(), Some('0'..='7')) {
                    return Err(Error::BadPattern);
                }
                let mut code = c as u32 - '0' as u32;
                for _ in 1..3 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.at += 1;
                }
                code
            }
            'x' => {
                if self.peek() == Some('{') {
                    self.at += 1;
                    let (mut code, mut digits) = (0u32, 0);
                    loop {
                        match self.next() {
                            Some('}') if digits > 0 => break code,
                            Some(c) => {
                                let digit = c.to_digit(16).ok_or(Error::BadPattern)?;
                                code = code * 16 + digit;
                                digits += 1;
                                if code > char::MAX as u32 {
                                    return Err(Error::BadPattern);
                                }
                            }
                            None => return Err(Error::BadPattern),
                        }
                    }
                } else {
                    let mut digit = || self.next().and_then(|c| c.to_digit(16)).ok_or(Error::BadPattern);
                    digit()? * 16 + digit()?
                }
            }
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c as u32,
            _ => return Err(Error::BadPattern),
        })
    }

    /// What follows an opening bracket, to the closing one.
    fn class(&mut self) -> Result<(), Error> {
        self.output.push('[');
        if self.peek() == Some('^') {
            self.at += 1;
            self.output.push('^');
        }
        let mut first = true;
        loop {
            match self.peek() {
                None => return Err(Error::BadPattern),
                Some(']') if !first => break,
                _ => {}
            }
            first = false;
            if self.peek() == Some('[') && self.peek_at(1) == Some(':') && self.posix_class()? {
                continue;
            }
            if self.peek() == Some('\\') && self.at + 1 < self.input.len() {
                self.at += 1;
                if self.named_class()? {
                    continue;
                }
                self.at -= 1;
            }
            let low = self.class_character()?;
            let mut high = low;
            if self.peek() == Some('-') && !matches!(self.peek_at(1), None | Some(']')) {
                self.at += 1;
                high = self.class_character()?;
                if high < low {
                    return Err(Error::BadPattern);
                }
            }
            // Surrogates are in no text.
            let low = if (0xd800..0xe000).contains(&low) { 0xe000 } else { low };
            let high = if (0xd800..0xe000).contains(&high) { 0xd7ff } else { high };
            if low <= high {
                write!(self.output, "\\x{{{low:x}}}-\\x{{{high:x}}}").unwrap_or_default();
            } else {
                self.output.push_str("[^\\x00-\\x{10FFFF}]");
            }
        }
        self.at += 1;
        self.output.push(']');
        Ok(())
    }

    fn class_character(&mut self) -> Result<u32, Error> {
        match self.next() {
            None => Err(Error::BadPattern),
            Some('\\') => self.character_escape(),
            Some(c) => Ok(c as u32),
        }
    }

    /// `[:name:]` or `[:^name:]`; `false`, and nothing is read, when there is no end.
    fn posix_class(&mut self) -> Result<bool, Error> {
        let body = &self.input[self.at + 2..];
        let Some(len) = body.windows(2).position(|pair| pair == [':', ']']) else {
            return Ok(false);
        };
        let name: String = body[..len].iter().collect();
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(&name)) {
            return Err(Error::BadPattern);
        }
        write!(self.output, "[:{name}:]").unwrap_or_default();
        self.at += len + 4;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compiles_here_compiles_there() {
        for (go, accepted) in [
            ("^a[^/]*$", true),
            ("^(.*/)?b$", true),
            ("^a{2}[^/]*$", true),
            ("^a{2,1}[^/]*$", false),
            ("^a{1001}$", false),
            ("^a{x[^/]*$", true),
            ("^[^/]*{2}$", false),
            ("^a|{2}$", false),
            ("^[a&&b]$", true),
            ("^[a-]$", true),
            ("^[]a]$", true),
            ("^[b-a]$", false),
            ("^[[:digit:]x]$", true),
            ("^[[:nope:]x]$", false),
            ("^[a", false),
            ("^\\d\\W\\pL$", true),
            ("^\\q$", false),
            ("^\\1$", false),
            ("^\\12$", true),
            ("^\\x41\\x{42}$", true),
            ("^\\Qa*\\E$", true),
            ("^\\_$", true),
            ("^\\é$", false),
        ] {
            let translated = translate(go);
            assert_eq!(translated.is_ok(), accepted, "{go}");
            if let Ok(text) = translated {
                assert!(regex::Regex::new(&text).is_ok(), "{go} -> {text}");
            }
        }
    }
}
