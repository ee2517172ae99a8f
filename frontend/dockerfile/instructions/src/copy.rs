use crate::Origin;

/// What is copied, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcesAndDest {
    /// The last word.
    pub dest_path: String,
    /// The sources that are paths, patterns or addresses.
    pub source_paths: Vec<String>,
    /// The sources that are here-documents.
    pub source_contents: Vec<SourceContent>,
}

/// A file whose content stands in the Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceContent {
    /// Its name: the word that ends the here-document.
    pub path: String,
    /// Its content, tabs removed where `<<-` asks for it.
    pub data: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

/// `ADD`: files of the context, addresses and archives.
///
/// Flags that were not given are empty, false or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Add {
    /// Where it was written.
    pub origin: Origin,
    /// What, and where to.
    pub paths: SourcesAndDest,
    /// `--chown=USER[:GROUP]`
    pub chown: String,
    /// `--chmod`, octal or symbolic, not checked before it is expanded.
    pub chmod: String,
    /// `--link`: a layer that does not depend on the one before.
    pub link: bool,
    /// `--exclude`, each.
    pub exclude_patterns: Vec<String>,
    /// `--keep-git-dir`, for repositories.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, for addresses and repositories.
    pub checksum: String,
    /// `--unpack`: archives are, or are not, unpacked.
    pub unpack: Option<bool>,
}

/// `COPY`: files of the context, of another stage or of an image.
///
/// Flags that were not given are empty or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Where it was written.
    pub origin: Origin,
    /// What, and where to.
    pub paths: SourcesAndDest,
    /// `--from`: stage, image or named context. Variables in it are not expanded.
    pub from: String,
    /// `--chown=USER[:GROUP]`
    pub chown: String,
    /// `--chmod`, octal or symbolic, not checked before it is expanded.
    pub chmod: String,
    /// `--link`: a layer that does not depend on the one before.
    pub link: bool,
    /// `--exclude`, each.
    pub exclude_patterns: Vec<String>,
    /// `--parents`: directories are kept.
    pub parents: bool,
}
