use crate::Word;
use crate::span::{Span, is_ascii_blank};

/// The words of an `ARG`, `ENV` or `LABEL`: separated by blanks that are neither quoted nor escaped. Quotes
/// and escapes stay; they are removed when the words are expanded.
pub(crate) fn quoted_words(rest: Span<'_>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<char> = None;
    let mut chars = rest.text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take().filter(|word| !word.text.is_empty()));
            continue;
        }
        let word = word.get_or_insert_with(|| Word { text: String::new(), offset: rest.at + at });
        // Between single quotes nothing is escaped.
        if c == escape && quote != Some('\'') {
            // At the end there is nothing to escape.
            if let Some((_, escaped)) = chars.next() {
                word.text.extend([c, escaped]);
            }
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => {}
        }
        word.text.push(c);
    }
    words.extend(word.filter(|word| !word.text.is_empty()));
    words
}

/// The words at the beginning that begin with `--`, without quotes and escapes, and what is behind them. A
/// lone `--` ends them. Only blanks of ASCII separate them.
pub(crate) fn flags(line: Span<'_>, escape: char) -> (Vec<Word>, Span<'_>) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start_ascii();
    while rest.text.starts_with("--") {
        let (word, quoted, behind) = flag(rest, escape);
        if word.text == "--" {
            return (flags, behind);
        }
        if quoted || !word.text.is_empty() {
            flags.push(word);
        }
        rest = behind.trim_start_ascii();
    }
    (flags, rest)
}

/// The word that `rest` begins with, whether it has quotes, and what is behind it.
fn flag(rest: Span<'_>, escape: char) -> (Word, bool, Span<'_>) {
    let mut word = Word { text: String::new(), offset: rest.at };
    let (mut quote, mut quoted) = (None, false);
    let mut chars = rest.text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if is_ascii_blank(c) => return (word, quoted, rest.from(at)),
            None if matches!(c, '\'' | '"') => {
                quote = Some(c);
                quoted = true;
            }
            Some(open) if open == c => quote = None,
            _ if c == escape => word.text.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.text.push(c),
        }
    }
    (word, quoted, rest.from(rest.text.len()))
}
