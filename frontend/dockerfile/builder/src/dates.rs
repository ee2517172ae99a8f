//! When sources were made.

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use buildkit_client_llb::{MarshalOptions, State};
use buildkit_frontend_gateway_client::{
    FileRange, GatewayClient, GatewayRef, MetaRequest, ReadFile, RemoteError, SolveRequest,
};
use buildkit_solver_pb::map::to_map;
use buildkit_solver_pb::{Definition, Input, Op, SourceOp, attr, op};
use buildkit_util_appcontext as tasks;
use buildkit_util_archive::{Reader, kind};
use buildkit_util_cachedigest::Digest;
use buildkit_util_compression::{Limits, detect, limited_decoder};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::build::single;

/// Bytes of a file that are read at a time, below the limit of what one call returns.
const PIECE: u64 = 4 << 20;
/// The first bytes of a file, which tell how it is compressed.
const MAGIC: usize = 6;

/// When the only source of a tree was made, in seconds since 1970; `None` if it has several, or nobody knows. `title` is
/// how the step is called in which that is looked up.
pub(crate) async fn source_date(
    client: &dyn GatewayClient,
    state: &State,
    title: &str,
) -> Result<Option<i64>, RemoteError> {
    let definition =
        state.marshal(&MarshalOptions::new()).map_err(|error| RemoteError::from_error(&error))?;
    let Some((op, source)) = only_source(&definition) else { return Ok(None) };
    let scheme = source.identifier.split_once("://").map_or("", |(scheme, _)| scheme);
    // Files of a client have no date that all of them share.
    if scheme == "local" {
        return Ok(None);
    }
    let request =
        MetaRequest { log_name: title.to_owned(), git_objects: scheme == "git", ..MetaRequest::default() };
    let (_, found) = client.resolve_source_meta(source.clone(), request).await?;
    if let Some(commit) = found.git.map(|git| git.commit_object).filter(|commit| !commit.is_empty()) {
        return commit_date(&commit);
    }
    if let Some(date) = found.http.and_then(|file| file.last_modified) {
        return Ok(Some(seconds(date)));
    }
    match to_map(source.attrs.clone()).remove(attr::HTTP_FILENAME) {
        Some(name) if matches!(scheme, "http" | "https") && !name.is_empty() => {
            archive_date(client, alone(&op, &definition), name).await
        }
        _ => Ok(None),
    }
}

/// The source of a graph that has but one, encoded and decoded.
fn only_source(definition: &Definition) -> Option<(Bytes, SourceOp)> {
    let source = |data: &Bytes| match Op::decode(data.as_ref()).ok()?.op? {
        op::Op::Source(source) => Some((data.clone(), source)),
        _ => None,
    };
    let mut sources = definition.def.iter().filter_map(source);
    sources.next().filter(|_| sources.next().is_none())
}

/// The graph of one op without inputs, as it is in another graph.
fn alone(op: &Bytes, other: &Definition) -> Definition {
    let digest = Digest::sha256(op).to_string();
    let metadata = other
        .metadata
        .iter()
        .filter(|entry| entry.key.as_deref() == Some(digest.as_str()))
        .cloned()
        .collect();
    let last = Op { inputs: vec![Input { digest, index: 0 }], ..Op::default() };
    Definition { def: vec![op.clone(), last.encode_deterministic().into()], metadata, source: None }
}

fn seconds(date: SystemTime) -> i64 {
    match date.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        // What is before the epoch counts to the second that it is in.
        Err(before) => {
            let before = before.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -whole.saturating_add(i64::from(before.subsec_nanos() > 0))
        }
    }
}

/// When a commit was made, as git has it: `committer NAME <ADDRESS> SECONDS ZONE`; `None` if it does not say so.
fn commit_date(object: &[u8]) -> Result<Option<i64>, RemoteError> {
    let text = String::from_utf8_lossy(object);
    let header = |name: &str| {
        let mut lines = text.lines().take_while(|line| !line.is_empty());
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    let invalid = |what: String| {
        RemoteError::new(buildkit_errdefs::Kind::InvalidArgument, format!("invalid commit object: {what}"))
    };
    for name in ["tree", "author"] {
        header(name).ok_or_else(|| invalid(format!("missing {name} header")))?;
    }
    let committer = header("committer").ok_or_else(|| invalid("missing committer header".to_owned()))?;
    let mut words = committer.rsplit_once('>').map_or("", |(_, date)| date).split_whitespace();
    let (date, zone) = (words.next(), words.next().unwrap_or_default());
    let is_zone = zone.len() == 5 && zone.starts_with(['+', '-']);
    Ok(date.filter(|_| is_zone).and_then(|seconds| seconds.parse().ok()))
}

/// The date of the newest file in an archive; `None` if the file is no archive.
async fn archive_date(
    client: &dyn GatewayClient,
    definition: Definition,
    name: String,
) -> Result<Option<i64>, RemoteError> {
    let request = SolveRequest { definition: Some(definition), ..SolveRequest::default() };
    let Some(tree) = single(client.solve(request).await?)? else { return Ok(None) };
    let (sender, receiver) = mpsc::channel(1);
    let newest = tasks::spawn_blocking(move || newest_file(Pieces { receiver, piece: Bytes::new() }));
    send_pieces(tree, name, sender).await?;
    // What does not come to an end as an archive is none.
    Ok(newest.await.ok().flatten())
}

/// Hands on a file until it ends, or nobody reads any more.
async fn send_pieces(
    tree: Arc<dyn GatewayRef>,
    path: String,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), RemoteError> {
    let mut offset = 0;
    loop {
        let range = Some(FileRange { offset, length: PIECE });
        let piece = tree.read_file(ReadFile { path: path.clone(), range }).await?;
        offset += piece.len() as u64;
        if piece.is_empty() || sender.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

/// A file as it comes in pieces.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.receiver.blocking_recv().unwrap_or_default();
        }
        self.piece.as_ref().read(buffer).inspect(|count| drop(self.piece.split_to(*count)))
    }
}

fn newest_file(mut file: impl Read + Send) -> Option<i64> {
    let mut magic = Vec::with_capacity(MAGIC);
    file.by_ref().take(MAGIC as u64).read_to_end(&mut magic).ok()?;
    let compression = detect(&magic);
    let whole = BufReader::new(std::io::Cursor::new(magic).chain(file));
    let mut archive = Reader::new(limited_decoder(compression, whole, Limits::default()).ok()?);
    let mut newest = None;
    while let Some(entry) = archive.entry().ok()? {
        let is_file = !matches!(
            entry.kind,
            kind::SYMLINK
                | kind::CHAR_DEVICE
                | kind::BLOCK_DEVICE
                | kind::DIRECTORY
                | kind::FIFO
                | kind::PAX_GLOBAL
        );
        if is_file {
            newest = newest.max(entry.mtime.map(|time| time.seconds));
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn commits_have_dates() {
        let commit = |committer: &str| {
            let text = format!(
                "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 5 +0000\ncommitter {committer}\n\ncommitter X <x@x> 9 +0000\n"
            );
            commit_date(text.as_bytes()).map_err(|error| error.message)
        };
        assert_eq!(commit("B C <b@x> 1700000000 +0100"), Ok(Some(1_700_000_000)));
        assert_eq!(commit("B <C> <b@x> -7 -0000"), Ok(Some(-7)));
        for committer in ["B <b@x>", "B", "B <b@x> 5", "B <b@x> five +0000", "B <b@x> 5 UTC"] {
            assert_eq!(commit(committer), Ok(None), "{committer}");
        }
        let error = commit_date(b"tree x\nauthor A\n\ncommitter B <b> 5 +0000").expect_err("no committer");
        assert_eq!(error.message, "invalid commit object: missing committer header");
        assert!(commit_date(b"object x\ntype commit\ntag v1\ntagger A <a> 5 +0000\n").is_err());
        assert!(commit_date(&[0xff, b'\n']).is_err());
    }

    #[test]
    fn dates_count_from_the_epoch() {
        for (date, want) in [
            (UNIX_EPOCH + Duration::from_millis(1500), 1),
            (UNIX_EPOCH - Duration::from_secs(2), -2),
            (UNIX_EPOCH - Duration::from_millis(1500), -2),
        ] {
            assert_eq!(seconds(date), want);
        }
    }
}
