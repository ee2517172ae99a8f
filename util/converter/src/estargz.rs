use std::io::{self, Write};

use buildkit_util_archive::{Header, Reader, Writer, description_size, kind};
use buildkit_util_cachedigest::{Digest, Digester};
use buildkit_util_compression::{Compression, Config, Encoder, GzipMembers};

use crate::footer;
use crate::toc::{self, Entry, TOC_NAME};

const BLOCK: usize = 512;
/// Bytes of a part of a file that can be read alone.
const CHUNK: u64 = 4 << 20;
/// Bytes at most that describe one entry.
const MAX_HEADER: usize = 4 << 20;

/// What readers of a layer in `EStargz` need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EStargz {
    /// Digest of the table of contents.
    pub toc_digest: Digest,
}

/// Compresses an archive that is written to it so that each file, and each 4 MiB of large ones, can be found and
/// decompressed alone (stargz-snapshotter, `docs/estargz.md`). Any reader of gzip and tar reads it too.
///
/// The archive stays as it is, byte for byte; an entry with the table of contents follows behind its end. What comes
/// out does not depend on the number of processors. Sparse files and an entry with the name of the table are errors.
pub struct EStargzWriter<W: Write> {
    members: GzipMembers<W>,
    /// How many were pushed.
    pushed: usize,
    /// The member that is being filled.
    member: Vec<u8>,
    /// Blocks that describe the next entry, as far as they are there.
    pending: Vec<u8>,
    state: State,
    entries: Vec<Entry>,
    level: Option<i32>,
}

enum State {
    /// A block that is a header comes next.
    Header,
    /// So many bytes belong to the description of the next entry.
    Special(usize),
    Content(Box<Content>),
    /// So many bytes are between an entry and the next.
    Padding(u64),
    /// The archive has ended.
    End,
}

/// A file that is being written.
struct Content {
    /// Its first entry.
    entry: usize,
    size: u64,
    written: u64,
    digester: Digester,
    chunk_digester: Digester,
}

impl<W: Write> EStargzWriter<W> {
    /// A writer to `out`; levels are those of gzip.
    pub fn new(out: W, level: Option<i32>) -> Self {
        Self {
            members: GzipMembers::new(out, level),
            pushed: 0,
            member: Vec::new(),
            pending: Vec::new(),
            state: State::Header,
            entries: Vec::new(),
            level,
        }
    }

    /// Ends the archive. Also gives what was appended to it before it was compressed.
    ///
    /// # Errors
    /// When the archive is not complete, or the rest cannot be written.
    pub fn finish(mut self) -> io::Result<(W, EStargz, Vec<u8>)> {
        let complete = matches!(self.state, State::Header | State::End | State::Padding(_));
        if !complete || !self.pending.is_empty() {
            return Err(invalid("the archive is truncated"));
        }
        self.push_member()?;
        let (mut out, offsets) = self.members.finish()?;
        let toc = toc::encode(&self.entries, &offsets).into_bytes();
        let mut writer = Writer::new(Vec::new());
        let header = Header {
            kind: kind::REGULAR,
            name: TOC_NAME.to_vec(),
            size: i64::try_from(toc.len()).map_err(io::Error::other)?,
            ..Header::default()
        };
        writer.entry(&header).map_err(io::Error::other)?;
        writer.content(&toc).map_err(io::Error::other)?;
        let appended = writer.finish().map_err(io::Error::other)?;
        let config = Config { kind: Compression::Gzip, level: self.level, force: false };
        let mut encoder = Encoder::new(config, &mut out)?;
        encoder.write_all(&appended)?;
        encoder.finish()?;
        out.write_all(&footer::encode(offsets.last().copied().unwrap_or(0)))?;
        Ok((out, EStargz { toc_digest: Digest::sha256(&toc) }, appended))
    }

    fn push_member(&mut self) -> io::Result<()> {
        if self.member.is_empty() {
            return Ok(());
        }
        let next = self.members.buffer();
        self.members.push(std::mem::replace(&mut self.member, next))?;
        self.pushed += 1;
        Ok(())
    }

    /// Takes what is described by blocks that are complete.
    fn header_block(&mut self) -> io::Result<State> {
        let block = &self.pending[self.pending.len() - BLOCK..];
        if block.iter().all(|&byte| byte == 0) {
            self.flush_pending()?;
            return Ok(State::End);
        }
        let block = block.first_chunk().ok_or_else(|| invalid("the archive is truncated"))?;
        if let Some(size) = description_size(block).map_err(invalid)? {
            if self.pending.len() + size > MAX_HEADER {
                return Err(invalid("header of an entry is too long"));
            }
            return Ok(if size == 0 { State::Header } else { State::Special(size) });
        }
        let header = Reader::new(self.pending.as_slice()).entry().map_err(io::Error::other)?;
        let header = header.ok_or_else(|| invalid("the archive is truncated"))?;
        self.entry(header)
    }

    fn entry(&mut self, header: Header) -> io::Result<State> {
        let sparse = header.records.keys().any(|key| key.starts_with(b"GNU.sparse."));
        if toc::type_of(&header).is_none() || sparse {
            return Err(invalid("estargz has no sparse files and no unknown types of entries"));
        }
        if is_toc(&header.name) {
            return Err(invalid("a file has the name of the table of contents"));
        }
        self.flush_pending()?;
        let size = if header.kind == kind::REGULAR { header.size.unsigned_abs() } else { 0 };
        let mut entry = Entry::new(header);
        if entry.header.kind == kind::REGULAR && size == 0 {
            entry.digest = Some(Digest::sha256(b""));
        }
        self.entries.push(entry);
        if size == 0 {
            return Ok(State::Header);
        }
        self.begin_chunk(size, 0)?;
        Ok(State::Content(Box::new(Content {
            entry: self.entries.len() - 1,
            size,
            written: 0,
            digester: Digester::new(),
            chunk_digester: Digester::new(),
        })))
    }

    /// A part begins at the start of a member.
    fn begin_chunk(&mut self, size: u64, written: u64) -> io::Result<()> {
        self.push_member()?;
        let member = self.pushed;
        if let Some(entry) = self.entries.last_mut() {
            entry.member = Some(member);
            entry.chunk_offset = written;
            entry.chunk_size = if size - written >= CHUNK { CHUNK } else { 0 };
        }
        Ok(())
    }

    fn flush_pending(&mut self) -> io::Result<()> {
        self.member.append(&mut self.pending);
        self.limit_member()
    }

    /// Many entries without content do not make a large member.
    fn limit_member(&mut self) -> io::Result<()> {
        if self.member.len() as u64 > CHUNK { self.push_member() } else { Ok(()) }
    }

    fn content(&mut self, mut content: Box<Content>, bytes: &[u8]) -> io::Result<(State, usize)> {
        let chunk_end = (content.written / CHUNK + 1) * CHUNK;
        let left = chunk_end.min(content.size) - content.written;
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = &bytes[..count];
        self.member.extend_from_slice(bytes);
        content.digester.update(bytes);
        content.chunk_digester.update(bytes);
        content.written += count as u64;
        if (count as u64) < left {
            return Ok((State::Content(content), count));
        }
        let digest = std::mem::take(&mut content.chunk_digester).finish();
        if let Some(entry) = self.entries.last_mut() {
            entry.chunk_digest = Some(digest);
        }
        if content.written < content.size {
            let name = self.entries[content.entry].header.name.clone();
            let mut entry = Entry::new(Header { name, ..Header::default() });
            entry.chunk = true;
            self.entries.push(entry);
            self.begin_chunk(content.size, content.written)?;
            return Ok((State::Content(content), count));
        }
        self.entries[content.entry].digest = Some(content.digester.finish());
        let padding = content.size.next_multiple_of(BLOCK as u64) - content.size;
        Ok((if padding == 0 { State::Header } else { State::Padding(padding) }, count))
    }
}

impl<W: Write> Write for EStargzWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (state, count) = match std::mem::replace(&mut self.state, State::End) {
            State::Header => {
                let count = bytes.len().min(BLOCK - self.pending.len() % BLOCK);
                self.pending.extend_from_slice(&bytes[..count]);
                let complete = self.pending.len().is_multiple_of(BLOCK);
                (if complete { self.header_block()? } else { State::Header }, count)
            }
            State::Special(left) => {
                let count = bytes.len().min(left);
                self.pending.extend_from_slice(&bytes[..count]);
                (if count == left { State::Header } else { State::Special(left - count) }, count)
            }
            State::Content(content) => self.content(content, bytes)?,
            State::Padding(left) => {
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.member.extend_from_slice(&bytes[..count]);
                let left = left - count as u64;
                (if left == 0 { State::Header } else { State::Padding(left) }, count)
            }
            State::End => {
                let count = bytes.len().min(BLOCK);
                self.member.extend_from_slice(&bytes[..count]);
                self.limit_member()?;
                (State::End, count)
            }
        };
        self.state = state;
        Ok(count)
    }

    /// Does nothing: a flush would change the output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn is_toc(name: &[u8]) -> bool {
    let mut parts = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.next() == Some(TOC_NAME) && parts.next().is_none()
}
