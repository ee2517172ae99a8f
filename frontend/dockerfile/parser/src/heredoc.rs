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
