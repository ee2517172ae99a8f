use buildkit_frontend_dockerfile_shell::{EmptyEnv, Lex};

use crate::Error;

/// A here-document: lines of the Dockerfile that are an instruction's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, without quotes.
    pub name: String,
    /// The number before `<<`, 0 without one.
    pub file_descriptor: u64,
    /// Whether variables in the content are expanded: no part of the word was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are to be removed from each line. [`Heredoc::content`] still has them.
    pub chomp: bool,
    /// The lines up to the one that ends it, with their line ends.
    pub content: String,
}

impl Heredoc {
    /// Reads a word as the announcement of a here-document, as `<<EOF` or `3<<-'EOF'`; `None` when it is
    /// another word.
    ///
    /// # Errors
    /// It begins as one, but its quotes are not closed.
    pub fn from_word(word: &str) -> Result<Option<Self>, Error> {
        let behind = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &word[..word.len() - behind.len()];
        let Some(rest) = behind.strip_prefix("<<") else { return Ok(None) };
        let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
        if rest.is_empty() || rest.contains('<') {
            return Ok(None);
        }
        // With and without quotes: where their numbers differ, a part of the word is quoted.
        let mut lex = Lex::new('\\');
        lex.skip_unset_env = true;
        let words = lex.process_words(rest, &EmptyEnv)?;
        let [name] = words.as_slice() else { return Ok(None) };
        lex.raw_quotes = true;
        let raw = lex.process_words(rest, &EmptyEnv)?;
        let [raw] = raw.as_slice() else { return Err(Error::InconsistentHeredoc(rest.to_owned())) };
        Ok(Some(Self {
            name: name.clone(),
            file_descriptor: if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) },
            expand: quotes(name) == quotes(raw),
            chomp,
            content: String::new(),
        }))
    }

    /// The content, without leading tabs where [`Heredoc::chomp`] asks for that.
    pub fn chomped(&self) -> String {
        if self.chomp { chomp(&self.content) } else { self.content.clone() }
    }
}

/// `content` without the tabs that its lines begin with.
pub fn chomp(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// The here-documents that a line announces, in their order.
pub(crate) fn announced(line: &str) -> Result<Vec<Heredoc>, Error> {
    let mut lex = Lex::new('\\');
    lex.raw_quotes = true;
    lex.raw_escapes = true;
    lex.skip_unset_env = true;
    // A line that is no sequence of words, as one with a lone quote, announces none: the shell will see it.
    let Ok(words) = lex.process_words(line, &EmptyEnv) else { return Ok(Vec::new()) };
    let words = words.iter().filter(|word| !has_operator(word));
    words.filter_map(|word| Heredoc::from_word(word).transpose()).collect()
}

/// Whether a substitution with an operator, as `${bits:-8}`, stands in the word outside single quotes. Then
/// `<<` is a shift of shell arithmetic, which upstream takes for no announcement either.
fn has_operator(word: &str) -> bool {
    let (mut single, mut double) = (false, false);
    let mut chars = word.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if !single => drop(chars.next()),
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '$' if !single => {
                let Some(inner) = word[at..].strip_prefix("${") else { continue };
                let behind = inner.trim_start_matches(|c: char| c == '_' || c.is_alphanumeric());
                // Special parameters have names of one other character.
                let special = if behind.len() == inner.len() { behind.chars().next() } else { None };
                if !behind.strip_prefix(|c| Some(c) == special).unwrap_or(behind).starts_with('}') {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

fn quotes(text: &str) -> usize {
    text.matches(['\'', '"']).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_announce_nothing() {
        let names = |line| announced(line).map(|it| it.into_iter().map(|it| it.name).collect::<Vec<_>>());
        for line in
            ["echo $((1 << ${b:-8}))", "$((1 << \"${b-8}\"))", "$((1 << ${?:-8}))", "<<${@#x}", "a<<b"]
        {
            assert_eq!(names(line), Ok(vec![]), "{line}");
        }
        for (line, name) in
            [("<<EOF", "EOF"), ("<< ${b}", "${b}"), ("<<'${b:-8}'", "${b:-8}"), ("<<${?}", "${?}")]
        {
            assert_eq!(names(line), Ok(vec![name.to_owned()]), "{line}");
        }
    }
}
