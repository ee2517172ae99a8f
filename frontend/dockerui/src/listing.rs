use buildkit_client_llb::{Differ, local};
use buildkit_frontend_gateway_client::{FileRange, ReadFile, RemoteError, Stat};
use buildkit_solver_pb::caps::SOURCE_METADATA_TRANSFER;
use buildkit_util_gopath::join;
use prost::Message as _;

use crate::DockerUi;
use crate::client::internal;
use crate::error::invalid;

/// File of a transfer of attributes that has them, each with its length before it.
const METADATA_FILE: &str = ".fsutil-metadata";

/// What is read of the attributes of a directory, in bytes: those of some ten thousand files.
const MAX_LISTING: u64 = 4 << 20;

/// Characters that mean something in patterns. A pattern that has them can be matched anywhere, so that the whole of
/// the user's directory would be walked for it.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '^', '\\', '!'];

impl DockerUi {
    /// The entries of a directory below one of the user's, whether or not they are left out of builds. Only their
    /// attributes are sent, and of a very large directory not all are given back. Empty when the directory has no
    /// entries, and when it is none.
    ///
    /// # Errors
    /// When the user does not share the directory, or the daemon cannot ask for attributes alone.
    pub async fn list_directory(&self, directory: &str, path: &str) -> Result<Vec<Stat>, RemoteError> {
        self.client
            .build_opts()
            .llb_caps
            .supports(SOURCE_METADATA_TRANSFER)
            .map_err(|error| RemoteError::from_error(&error))?;
        if path.contains(SPECIAL) {
            return Err(invalid(format!("cannot list {path}: its name is a pattern")));
        }
        let source = local(directory)
            .session_id(self.session_of(directory))
            .include([join([path, "*"])])
            .exclude([join([path, "*", "*"])])
            .metadata_only([] as [&str; 0])
            .shared_key_hint(&format!("{directory}-names"))
            .differ(Differ::None, false);
        let title = format!("list {} of {directory}", if path.is_empty() { "files" } else { path });
        let tree = self.solve(&internal(source, &title).state(), false).await?;
        let range = Some(FileRange { offset: 0, length: MAX_LISTING });
        let listing = tree.read(ReadFile { path: METADATA_FILE.to_owned(), range }).await?;
        Ok(entries(&listing, path))
    }
}

/// The entries directly in a directory; one that is cut off at the end is left out.
fn entries(mut listing: &[u8], directory: &str) -> Vec<Stat> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = listing.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        listing = rest;
        let Ok(mut stat) = Stat::decode(message) else { continue };
        let (parent, name) = stat.path.rsplit_once('/').unwrap_or(("", &stat.path));
        if parent == directory && !name.is_empty() {
            stat.path = name.to_owned();
            entries.push(stat);
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read_as_far_as_they_go() {
        let mut listing = Vec::new();
        for path in ["d", "d/a", "d/b", "d/b/c", "e"] {
            let stat = Stat { path: path.to_owned(), ..Stat::default() }.encode_to_vec();
            listing.extend_from_slice(&u32::try_from(stat.len()).unwrap().to_le_bytes());
            listing.extend_from_slice(&stat);
        }
        let names = |listing: &[u8], directory: &str| {
            entries(listing, directory).into_iter().map(|stat| stat.path).collect::<Vec<_>>()
        };
        assert_eq!(names(&listing, ""), ["d", "e"]);
        assert_eq!(names(&listing, "d"), ["a", "b"]);
        assert_eq!(names(&listing[..listing.len() - 1], ""), ["d"]);
        assert_eq!(names(b"\xff\xff\xff\xff", ""), Vec::<String>::new());
        assert_eq!(names(b"\x01\0\0\0\xff", ""), Vec::<String>::new());
    }
}
