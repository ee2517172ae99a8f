use crate::error::{At, Error};
use crate::json::{Json, string_array};
use crate::keyword::Form;
use crate::span::{Span, is_ascii_blank};
use crate::words::{flags, quoted_words};
use crate::{Args, Node, Pair, SourceMap, Word};

/// How deep `ONBUILD` in `ONBUILD` is read. It is refused anyway, where instructions are given a meaning.
const MAX_TRIGGERS: usize = 8;

/// Reads one joined line. Lines of the file, comments and here-documents are for the caller to add.
pub(crate) fn node_from_line(line: &str, source: SourceMap, escape: char) -> Result<Node, At> {
    read(line, source, escape, 0)
}

fn read(line: &str, source: SourceMap, escape: char, depth: usize) -> Result<Node, At> {
    let (keyword, rest) = Span::new(line).trim().split_at_blanks();
    let (flags, args) = match rest {
        Some(rest) => flags(rest, escape),
        None => (Vec::new(), keyword.from(keyword.text.len())),
    };
    let form = Form::of(keyword.text);
    let (args, json) = match form {
        Form::Trigger if depth < MAX_TRIGGERS => (trigger(args.trim(), &source, escape, depth)?, false),
        Form::Trigger => (line_or_nothing(args.trim()), false),
        form => simple(form, args.trim(), escape)?,
    };
    Ok(Node {
        keyword: keyword.text.to_owned(),
        flags,
        args,
        json,
        heredocs: Vec::new(),
        original: line.to_owned(),
        comments: Vec::new(),
        start_line: source.position(0).line,
        end_line: source.position(0).line,
        source,
    })
}

fn trigger(rest: Span<'_>, source: &SourceMap, escape: char, depth: usize) -> Result<Args, At> {
    if rest.is_empty() {
        return Ok(Args::Words(Vec::new()));
    }
    let inner = read(rest.text, source.from(rest.at), escape, depth + 1)
        .map_err(|at| At { offset: rest.at + at.offset, ..at })?;
    Ok(Args::Trigger(Box::new(inner)))
}

/// The arguments, and whether they are JSON.
fn simple(form: Form, rest: Span<'_>, escape: char) -> Result<(Args, bool), At> {
    let args = match form {
        Form::Ignored | Form::Trigger => Args::Words(vec![Word { text: String::new(), offset: rest.at }]),
        Form::Line => line_or_nothing(rest),
        Form::List => list(rest),
        Form::Words => Args::Words(quoted_words(rest, escape)),
        Form::Pairs(keyword) => Args::Pairs(pairs(keyword, rest, escape)?),
        Form::JsonOrLine => return json_or(rest, line_or_nothing),
        Form::JsonOrList => return json_or(rest, list),
        Form::Health => return health(rest),
    };
    Ok((args, false))
}

fn line_or_nothing(rest: Span<'_>) -> Args {
    Args::Words(if rest.is_empty() { Vec::new() } else { vec![rest.to_word()] })
}

fn list(rest: Span<'_>) -> Args {
    let mut words = Vec::new();
    let mut rest = (!rest.is_empty()).then_some(rest);
    while let Some(span) = rest {
        let (word, behind) = span.split_at_blanks();
        words.push(word.to_word());
        rest = behind;
    }
    Args::Words(words)
}

fn json_or(rest: Span<'_>, otherwise: impl FnOnce(Span<'_>) -> Args) -> Result<(Args, bool), At> {
    match string_array(rest) {
        Json::Strings(words) => Ok((Args::Words(words), true)),
        Json::OtherArray(offset) => Err(At { error: Error::NotStringArray, offset }),
        Json::No => Ok((otherwise(rest), false)),
    }
}

fn health(rest: Span<'_>) -> Result<(Args, bool), At> {
    let end = rest.text.find(is_ascii_blank).unwrap_or(rest.text.len());
    if end == 0 {
        return Ok((Args::Words(Vec::new()), false));
    }
    let (command, json) = json_or(rest.from(end).trim_start_ascii(), line_or_nothing)?;
    let mut words = vec![rest.to(end).to_word()];
    if let Args::Words(command) = command {
        words.extend(command);
    }
    Ok((Args::Words(words), json))
}

fn pairs(keyword: &'static str, rest: Span<'_>, escape: char) -> Result<Vec<Pair>, At> {
    let words = quoted_words(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.text.contains('=') {
        let (key, value) = rest.split_at_blanks();
        let Some(value) = value else {
            return Err(At { error: Error::TwoArguments(keyword), offset: rest.at });
        };
        return Ok(vec![Pair { key: key.to_word(), value: value.to_word(), legacy: true }]);
    }
    words.into_iter().map(pair).collect()
}

fn pair(word: Word) -> Result<Pair, At> {
    let Some((key, value)) = word.text.split_once('=') else {
        return Err(At { offset: word.offset, error: Error::MissingEquals(word.text) });
    };
    Ok(Pair {
        value: Word { text: value.to_owned(), offset: word.offset + key.len() + 1 },
        key: Word { text: key.to_owned(), offset: word.offset },
        legacy: false,
    })
}
