use buildkit_frontend_dockerfile_parser::{Args, Node, Word};

use crate::error::At;
use crate::flags::{Flags, Takes};
use crate::{CommandLine, Error, InlineFile, KeyValue, Origin};

/// An instruction that is to be given its meaning.
pub(crate) struct Request<'a> {
    pub(crate) node: &'a Node,
    /// The keyword as errors name it.
    pub(crate) keyword: &'static str,
    pub(crate) words: &'a [Word],
}

impl<'a> Request<'a> {
    pub(crate) fn new(node: &'a Node, keyword: &'static str) -> Self {
        let words: &[Word] = match &node.args {
            Args::Words(words) => words,
            Args::Pairs(_) | Args::Trigger(_) => &[],
        };
        Self { node, keyword, words }
    }

    pub(crate) fn origin(&self) -> Origin {
        origin(self.node)
    }

    pub(crate) fn flags(&self, known: &[(&'static str, Takes)]) -> Result<Flags<'a>, At> {
        Flags::read(&self.node.flags, known)
    }

    pub(crate) fn no_flags(&self) -> Result<(), At> {
        self.flags(&[]).map(drop)
    }

    /// The arguments, of which there is at least one.
    pub(crate) fn some_words(&self) -> Result<&'a [Word], Error> {
        if self.words.is_empty() { Err(Error::AtLeastOneArgument(self.keyword)) } else { Ok(self.words) }
    }

    /// The one argument.
    pub(crate) fn one_word(&self) -> Result<String, Error> {
        match self.words {
            [word] => Ok(word.text.clone()),
            _ => Err(Error::ExactlyOneArgument(self.keyword)),
        }
    }

    /// The pairs of an `ENV` or `LABEL`.
    pub(crate) fn pairs(&self) -> Result<Vec<KeyValue>, At> {
        let Args::Pairs(pairs) = &self.node.args else {
            return Err(Error::AtLeastOneArgument(self.keyword).into());
        };
        if pairs.is_empty() {
            return Err(Error::AtLeastOneArgument(self.keyword).into());
        }
        let pair = |pair: &buildkit_frontend_dockerfile_parser::Pair| {
            if pair.key.text.is_empty() {
                return Err(At { error: Error::BlankName(self.keyword), offset: Some(pair.key.offset) });
            }
            let (key, value) = (pair.key.text.clone(), pair.value.text.clone());
            Ok(KeyValue { key, value, legacy: pair.legacy })
        };
        pairs.iter().map(pair).collect()
    }

    /// The words of a command in either form.
    pub(crate) fn command(&self) -> CommandLine {
        let file = |heredoc: &buildkit_frontend_dockerfile_parser::Heredoc| InlineFile {
            name: heredoc.name.clone(),
            data: heredoc.content.clone(),
            chomp: heredoc.chomp,
        };
        CommandLine {
            words: command_words(self.words, self.node.json),
            files: self.node.heredocs.iter().map(file).collect(),
            prepend_shell: !self.node.json,
        }
    }
}

/// The words of the exec form, or the one line of the shell form.
pub(crate) fn command_words(words: &[Word], json: bool) -> Vec<String> {
    let words: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
    if json || words.is_empty() { words } else { vec![words.join(" ")] }
}

pub(crate) fn origin(node: &Node) -> Origin {
    Origin {
        keyword: node.keyword.clone(),
        code: node.original.trim().to_owned(),
        ranges: node.ranges(),
        comments: node.comments.clone(),
        position: node.position(0),
    }
}

/// The rest of the first comment that begins with `name`.
pub(crate) fn doc_comment(comments: &[String], name: &str) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let mut descriptions =
        comments.iter().filter_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '));
    descriptions.next().map(str::to_owned)
}
