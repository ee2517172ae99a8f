use std::iter::Peekable;
use std::str::CharIndices;

use buildkit_errdefs::{Classify, Kind};
use regex::{Regex, RegexBuilder};

/// Most expressions of one filter list. Filters come from clients, and each takes memory and time.
const MAX_REGEXES: usize = 64;

/// About the most bytes that a compiled expression takes.
const MAX_PROGRAM: usize = 256 << 10;

/// Chooses records by their fields, in containerd's filter grammar (pkg/filters):
///
/// ```text
/// filter    := selector ("," selector)*
/// selector  := fieldpath (operator value)?
/// fieldpath := field ("." field)*
/// field     := quoted | [A-Za-z0-9_]+
/// operator  := "==" | "!=" | "~="
/// value     := quoted | [^\s,]+
/// quoted    := a Go string; after "~=" also between "/" or "|"
/// ```
///
/// All selectors of one filter must match; of several filters, one. No filter matches everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None` matches everything.
    any: Option<Vec<Vec<Selector>>>,
}

#[derive(Clone, Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    /// `None` is an expression that does not compile, or is too large, which matches nothing, as in containerd.
    Matches(Option<Regex>),
}

/// A filter is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filters: parse error: [{input}]: {message}: invalid argument")]
pub struct FilterError {
    input: String,
    message: String,
}

impl Classify for FilterError {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Filter {
    /// Parses filters of which one must match.
    ///
    /// # Errors
    /// When one of them has not the form, or there are more expressions than make sense.
    pub fn parse<S: AsRef<str>>(filters: &[S]) -> Result<Self, FilterError> {
        if filters.is_empty() {
            return Ok(Self::default());
        }
        let mut regexes = 0;
        let any = filters.iter().map(|text| Parser::new(text.as_ref(), &mut regexes).selectors());
        let any = any.collect::<Result<_, _>>()?;
        Ok(Self { any: Some(any) })
    }

    /// Whether something matches whose fields `field` tells: the value, or `None` for one that it
    /// has not. A field that is only there or not has an empty value.
    pub fn matches(&self, field: &dyn Fn(&[&str]) -> Option<String>) -> bool {
        let Some(any) = &self.any else { return true };
        any.iter().any(|all| all.iter().all(|selector| selector.matches(field)))
    }
}

impl Selector {
    fn matches(&self, field: &dyn Fn(&[&str]) -> Option<String>) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let value = field(&path);
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(expect) => value.as_ref() == Some(expect),
            Test::NotEqual(expect) => value.unwrap_or_default() != *expect,
            Test::Matches(regex) => {
                regex.as_ref().is_some_and(|regex| regex.is_match(&value.unwrap_or_default()))
            }
        }
    }
}

struct Parser<'a> {
    input: &'a str,
    rest: Peekable<CharIndices<'a>>,
    /// Expressions so far, also of the filters before.
    regexes: &'a mut usize,
}

impl<'a> Parser<'a> {
    fn new(input: &'a str, regexes: &'a mut usize) -> Self {
        Self { input, rest: input.char_indices().peekable(), regexes }
    }

    fn error<T>(&mut self, message: impl Into<String>) -> Result<T, FilterError> {
        let input = match self.rest.peek() {
            Some((at, found)) => {
                format!("{} >|{found}|< {}", &self.input[..*at], &self.input[at + found.len_utf8()..])
            }
            None => self.input.to_owned(),
        };
        Err(FilterError { input, message: message.into() })
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(|(_, found)| found.is_whitespace()).is_some() {}
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest.peek().map(|(_, found)| *found)
    }

    /// An empty text has no selectors, and matches everything.
    fn selectors(mut self) -> Result<Vec<Selector>, FilterError> {
        if self.input.is_empty() {
            return Ok(Vec::new());
        }
        let mut selectors = vec![self.selector()?];
        loop {
            match self.peek() {
                None => return Ok(selectors),
                Some(',') => {
                    self.rest.next();
                    selectors.push(self.selector()?);
                }
                Some(found) => return self.error(format!("unexpected input: {found}")),
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, FilterError> {
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.rest.next();
            path.push(self.field()?);
        }
        let test = match self.peek() {
            None | Some(',') => Test::Present,
            _ => self.test()?,
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, FilterError> {
        match self.peek() {
            Some('"') => self.quoted(),
            _ => {
                let field = self.take_while(|found| found.is_ascii_alphanumeric() || found == '_');
                if field.is_empty() { self.error("expected field or quoted") } else { Ok(field) }
            }
        }
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        let operator = self.take_while(|found| matches!(found, '=' | '!' | '~'));
        match operator.as_str() {
            "==" => Ok(Test::Equal(self.value(false)?)),
            "!=" => Ok(Test::NotEqual(self.value(false)?)),
            "~=" => {
                let expression = self.value(true)?;
                *self.regexes += 1;
                if *self.regexes > MAX_REGEXES {
                    return self.error(format!("more than {MAX_REGEXES} regular expressions"));
                }
                let mut regex = RegexBuilder::new(&expression);
                Ok(Test::Matches(regex.size_limit(MAX_PROGRAM).dfa_size_limit(MAX_PROGRAM).build().ok()))
            }
            "" => self.error("expected an operator (\"==\"|\"!=\"|\"~=\")"),
            other => {
                let message = format!("unsupported operator {other:?}");
                self.error(message)
            }
        }
    }

    fn value(&mut self, other_quotes: bool) -> Result<String, FilterError> {
        match self.peek() {
            Some('"') => self.quoted(),
            Some('/' | '|') if other_quotes => self.quoted(),
            Some('/' | '|') => self.error("invalid quote encountered"),
            _ => {
                let value =
                    self.take_while(|found| found != ',' && !found.is_whitespace() && !found.is_control());
                if value.is_empty() { self.error("expected value or quoted") } else { Ok(value) }
            }
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some((_, found)) = self.rest.next_if(|(_, found)| keep(*found)) {
            taken.push(found);
        }
        taken
    }

    /// A string in the quotes that come next, with Go's escapes.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let Some((_, quote)) = self.rest.next() else { return self.error("quoted literal not terminated") };
        let mut out = Vec::new();
        loop {
            match self.rest.next().map(|(_, found)| found) {
                None | Some('\n') => return self.error("quoted literal not terminated"),
                Some('\\') => self.escape(quote, &mut out)?,
                Some(found) if found == quote => break,
                Some(found) => out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    fn escape(&mut self, quote: char, out: &mut Vec<u8>) -> Result<(), FilterError> {
        let Some((_, found)) = self.rest.next() else { return self.error("illegal escape sequence") };
        let byte = match found {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            found if found == quote => {
                out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            '0'..='7' => {
                let value = self.digits(found.to_digit(8), 8, 2)?;
                let Ok(byte) = u8::try_from(value) else {
                    return self.error("illegal numeric escape sequence");
                };
                byte
            }
            'x' => self.digits(None, 16, 2)? as u8,
            'u' | 'U' => {
                let value = self.digits(None, 16, if found == 'u' { 4 } else { 8 })?;
                let Some(character) = char::from_u32(value) else {
                    return self.error("illegal numeric escape sequence");
                };
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.error("illegal escape sequence"),
        };
        out.push(byte);
        Ok(())
    }

    fn digits(&mut self, first: Option<u32>, radix: u32, count: usize) -> Result<u32, FilterError> {
        let mut value = first.unwrap_or(0);
        for _ in 0..count {
            match self.rest.peek().and_then(|(_, found)| found.to_digit(radix)) {
                Some(digit) => {
                    value = value.wrapping_mul(radix).wrapping_add(digit);
                    self.rest.next();
                }
                None => return self.error("illegal numeric escape sequence"),
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(filters: &[&str]) -> bool {
        Filter::parse(filters).expect("filter").matches(&|path: &[&str]| match path {
            ["id"] => Some("abc".to_owned()),
            ["type"] => Some("source.local".to_owned()),
            ["mutable"] => Some(String::new()),
            ["labels", "a b"] => Some("x,y".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn filters_match() {
        let cases: [(&[&str], bool); 22] = [
            (&[], true),
            (&[""], true),
            (&["id==abc"], true),
            (&["id == abc"], true),
            (&["id==\"abc\""], true),
            (&["id==ab"], false),
            (&["id!=abc"], false),
            (&["none!=abc"], true),
            (&["none==\"\""], false),
            (&["mutable"], true),
            (&["immutable"], false),
            (&["mutable,id==abc"], true),
            (&["immutable,id==abc"], false),
            (&["immutable", "id==abc"], true),
            (&["type==source.local"], true),
            (&["id~=^a.c$"], true),
            (&["id~=/b/"], true),
            (&["id~=|^b|"], false),
            (&["id~=\"(\""], false),
            (&["labels.\"a b\"==\"x,y\""], true),
            (&["labels.\"a\\x20b\""], true),
            (&["type==\"source.\\u006cocal\""], true),
        ];
        for (filters, expect) in cases {
            assert_eq!(matches(filters), expect, "{filters:?}");
        }
    }

    #[test]
    fn bad_filters_are_refused() {
        for text in [
            "=", "id=", "id=abc", "id===abc", "id==", ",", "id==a,", "a b", "id==\"x", "id==/x/", "\"\\q\"",
            "id.", "é==x",
        ] {
            let error = Filter::parse(&[text]).expect_err(text);
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(error.to_string().starts_with("filters: parse error: ["), "{error}");
        }
    }

    #[test]
    fn expressions_are_bounded() {
        assert!(!matches(&["id~=^(((a?){100}){100}){100}$"]), "too large");
        let many = |count: usize| Filter::parse(&vec!["id~=a"; count]).map(drop);
        many(MAX_REGEXES).expect("few");
        let error = many(MAX_REGEXES + 1).expect_err("many").to_string();
        assert!(error.contains("more than 64 regular expressions"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            let _ = Filter::parse(&[text]);
        }

        #[test]
        fn quoting_keeps_values(value in "[a-zA-Z0-9 ,.=~!]{0,20}") {
            let filter = Filter::parse(&[format!("id==\"{value}\"")]).expect("filter");
            let same = value.clone();
            prop_assert!(filter.matches(&move |_: &[&str]| Some(same.clone())));
        }
    }
}
