//! What `ADD` takes from elsewhere: repositories and files of web servers.

use buildkit_client_llb::{Constrained as _, CopyFile, Git, copy, git, http};
use buildkit_frontend_dockerfile_dfgitutil::GitRef;
use buildkit_frontend_dockerfile_instructions::Add;
use buildkit_util_cachedigest::Digest;
use buildkit_util_gitutil::GitUrl;
use buildkit_util_gopath::base;

use crate::{Error, Result, name};

/// Name of a file whose address has none.
const UNNAMED: &str = "__unnamed__";

/// What is said about repositories by flags and by their addresses. One `ADD` has it for all of its sources.
pub(crate) struct GitAdd {
    keep_git_dir: Option<bool>,
    checksum: String,
}

impl GitAdd {
    pub(crate) fn new(keep_git_dir: Option<bool>, checksum: String) -> Self {
        Self { keep_git_dir, checksum }
    }

    pub(super) fn checksum(&self) -> &str {
        &self.checksum
    }

    /// The repository, with what flags and address say together.
    fn source(&mut self, reference: &GitRef) -> Result<Git> {
        let mut source = git(&reference.remote, "").reference(&reference.reference);
        if let (Some(flag), Some(address)) = (self.keep_git_dir, reference.keep_git_dir)
            && flag != address
        {
            return Err(Error::invalid("inconsistent keep-git-dir configuration"));
        }
        self.keep_git_dir = reference.keep_git_dir.or(self.keep_git_dir);
        if self.keep_git_dir == Some(true) {
            source = source.keep_git_dir();
        }
        if !reference.checksum.is_empty() {
            if !self.checksum.is_empty() && self.checksum != reference.checksum {
                return Err(Error::invalid(format!(
                    "checksum mismatch {:?} != {:?}",
                    self.checksum, reference.checksum
                )));
            }
            self.checksum.clone_from(&reference.checksum);
        }
        if !self.checksum.is_empty() {
            source = source.checksum(&self.checksum);
        }
        if !reference.subdir.is_empty() {
            source = source.subdir(&reference.subdir);
        }
        if reference.submodules == Some(false) {
            source = source.skip_submodules();
        }
        Ok(source)
    }

    pub(super) fn copy(&mut self, reference: &GitRef, title: &str, dest: &str) -> Result<CopyFile> {
        let mut source = self.source(reference)?;
        if reference.fetch_by_commit {
            source = source.fetch_by_commit();
        }
        Ok(copy(source.custom_name(title).state(), "/", dest).create_dest())
    }

    /// The repository alone.
    pub(crate) fn state(mut self, reference: &GitRef) -> Result<buildkit_client_llb::State> {
        Ok(self.source(reference)?.state())
    }
}

/// Name of the file at an address.
pub(crate) fn file_name(url: &str) -> String {
    match GitUrl::parse(url).as_ref().map(|url| base(&url.path)) {
        Ok("." | "/" | "") | Err(_) => UNNAMED.to_owned(),
        Ok(name) => name.to_owned(),
    }
}

pub(super) fn http_copy(add: &Add, url: &str, checksum: &str, title: &str, dest: &str) -> Result<CopyFile> {
    let file = file_name(url);
    let mut source = http(url).filename(&file).custom_name(title);
    if !checksum.is_empty() {
        source = source.checksum(digest(checksum)?);
    }
    // It says that it comes from an instruction, but not from which.
    let source = name::command(source, "");
    let action = copy(source.state(), &file, dest).create_dest();
    Ok(if add.unpack == Some(true) { action.unpack() } else { action })
}

pub(crate) fn digest(text: &str) -> Result<Digest> {
    Digest::parse(text).map_err(|error| Error::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_after_their_address() {
        for (url, want) in [
            ("http://x/a/b.tar?c=/d#/e", "b.tar"),
            ("https://x/a%20b", "a b"),
            ("https://x/a/", "a"),
            ("https://x/", UNNAMED),
            ("https://x", UNNAMED),
            ("https://x/%zz", UNNAMED),
        ] {
            assert_eq!(file_name(url), want, "{url}");
        }
    }
}
