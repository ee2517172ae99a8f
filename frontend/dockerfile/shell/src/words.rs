/// Splits text at blanks while it is put together.
#[derive(Debug, Default)]
pub(crate) struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    /// Adds text in which blanks separate words.
    pub(crate) fn split(&mut self, text: &str) {
        for c in text.chars() {
            self.split_char(c);
        }
    }

    /// Adds a character, which separates words when it is blank.
    pub(crate) fn split_char(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    /// Adds text that is part of one word, blanks included.
    pub(crate) fn keep(&mut self, text: &str) {
        self.word.push_str(text);
    }

    /// As [`Words::keep`], for one character.
    pub(crate) fn keep_char(&mut self, c: char) {
        self.word.push(c);
    }

    /// The words.
    pub(crate) fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}
