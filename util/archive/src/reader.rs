use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use buildkit_util_compression::Limits;

use crate::encode::{BLOCK, MAX_SPECIAL};
use crate::header::{Format, Header, is_header_only, kind};
use crate::parse::{check_path, parse_block, text};
use crate::sparse::{self, FromContent, Map, PaxMap};
use crate::{Error, Malformed, pax};

/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// A piece of an entry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// So many zeros, which the archive does not have.
    Hole(u64),
}

/// Reads an archive, entry by entry, with bounded memory.
///
/// What an archive means is what Go's `archive/tar` takes it for, and what other readers could take for
/// something else is an error: PAX records that do not follow the format, or more than one set of them for an
/// entry. Paths longer than 4096 bytes are an error, as are more than 1 MiB of what describes an entry.
pub struct Reader<R: Read> {
    input: BufReader<R>,
    /// Bytes of the current entry that are left in the archive.
    left: u64,
    padding: usize,
    sparse: Option<Sparse>,
    /// Bytes of the buffer that were handed out.
    lent: usize,
    last: Vec<u8>,
    ended: bool,
    limits: Limits,
}

struct Sparse {
    map: Map,
    position: u64,
    size: u64,
}

impl<R: Read> Reader<R> {
    /// A reader of an archive that is not compressed.
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            left: 0,
            padding: 0,
            sparse: None,
            lent: 0,
            last: Vec::new(),
            ended: false,
            limits: Limits::default(),
        }
    }

    /// Sets how much larger than their data sparse files may be.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The next entry; what is left of the content of the one before is passed over.
    ///
    /// # Errors
    /// When the archive is not valid or cannot be read.
    pub fn entry(&mut self) -> Result<Option<Header>, Error> {
        if self.ended {
            return Ok(None);
        }
        let entry = self.next_entry().map_err(|failure| match failure {
            FromContent::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.malformed(Malformed::Truncated)
            }
            FromContent::Io(error) => Error::Read(error),
            FromContent::Malformed(reason) => self.malformed(reason),
        });
        match &entry {
            Ok(Some(header)) => self.last.clone_from(&header.name),
            _ => self.ended = true,
        }
        entry
    }

    /// The next piece of the current entry's content.
    ///
    /// # Errors
    /// When the archive ends before, a map of holes does not fit, or the archive cannot be read.
    pub fn chunk(&mut self) -> Result<Option<Chunk<'_>>, Error> {
        self.input.consume(std::mem::take(&mut self.lent));
        let mut wanted = self.left;
        if let Some(sparse) = &mut self.sparse {
            let next = sparse.map.front().copied();
            let start = next.map_or(sparse.size, |part| part.offset.unsigned_abs());
            if sparse.position < start {
                let hole = start - sparse.position;
                sparse.position = start;
                return Ok(Some(Chunk::Hole(hole)));
            }
            let Some(part) = next else {
                // Data that is in no part.
                return if self.left == 0 { Ok(None) } else { Err(self.malformed(Malformed::Sparse)) };
            };
            wanted = (part.offset + part.length).unsigned_abs() - sparse.position;
            if self.left == 0 {
                return Err(self.malformed(Malformed::Sparse));
            }
            wanted = wanted.min(self.left);
        }
        if wanted == 0 {
            return Ok(None);
        }
        let available = self.input.fill_buf().map_err(Error::Read)?.len();
        if available == 0 {
            return Err(self.malformed(Malformed::Truncated));
        }
        let count = available.min(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.left -= count as u64;
        self.lent = count;
        if let Some(sparse) = &mut self.sparse {
            sparse.position += count as u64;
            if count as u64 == wanted
                && sparse
                    .map
                    .front()
                    .is_some_and(|part| (part.offset + part.length).unsigned_abs() == sparse.position)
            {
                sparse.map.pop_front();
            }
        }
        Ok(Some(Chunk::Data(&self.input.buffer()[..count])))
    }

    /// Reads all that is behind the end of the archive, which may be anything.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.input.consume(std::mem::take(&mut self.lent));
        self.ended = true;
        loop {
            let count = self.input.fill_buf().map_err(Error::Read)?.len();
            if count == 0 {
                return Ok(());
            }
            self.input.consume(count);
        }
    }

    fn malformed(&self, reason: Malformed) -> Error {
        Error::Malformed { reason, after: OsStr::from_bytes(&self.last).into() }
    }

    fn next_entry(&mut self) -> Result<Option<Header>, FromContent> {
        let mut records: Option<pax::Records> = None;
        let (mut long_name, mut long_link) = (Vec::new(), Vec::new());
        let mut format = Format::ANY;
        loop {
            self.skip()?;
            let Some(block) = self.next_block()? else { return Ok(None) };
            let mut header = parse_block(&block)?;
            self.begin(&header)?;
            format = format.and(header.format);
            match header.kind {
                kind::PAX | kind::PAX_GLOBAL => {
                    // Readers do not agree on whose records they were.
                    if records.is_some() || (header.kind == kind::PAX_GLOBAL && !long_name.is_empty()) {
                        return Err(Malformed::Pax.into());
                    }
                    format = format.and(Format::PAX);
                    let parsed = pax::parse(&self.special()?)?;
                    if header.kind == kind::PAX {
                        records = Some(parsed);
                        continue;
                    }
                    pax::check_global(&parsed)?;
                    pax::merge(&mut header, parsed)?;
                    check_path(&header.name)?;
                    return Ok(Some(Header {
                        kind: header.kind,
                        name: header.name,
                        records: header.records,
                        format,
                        ..Header::default()
                    }));
                }
                kind::GNU_LONG_NAME | kind::GNU_LONG_LINK => {
                    format = format.and(Format::GNU);
                    let long =
                        if header.kind == kind::GNU_LONG_NAME { &mut long_name } else { &mut long_link };
                    let content = self.special()?;
                    *long = text(&content);
                    // GNU tar reads on to a NUL, wherever it is.
                    let goes_on = !content.contains(&0)
                        && self.padding > 0
                        && self.input.fill_buf()?.first().is_some_and(|&byte| byte != 0);
                    // To it nothing is an empty name, to Go it is none.
                    if long.is_empty() || goes_on {
                        return Err(Malformed::Header.into());
                    }
                    continue;
                }
                _ => {}
            }
            let records = records.take().unwrap_or_default();
            let names = |key: &[u8]| records.contains_key(key);
            // Which of two names counts is not agreed on.
            if (!long_name.is_empty() && (names(b"path") || names(b"GNU.sparse.name")))
                || (!long_link.is_empty() && names(b"linkpath"))
            {
                return Err(Malformed::Pax.into());
            }
            pax::merge(&mut header, records)?;
            if !long_name.is_empty() {
                header.name = std::mem::take(&mut long_name);
            }
            if !long_link.is_empty() {
                header.link = std::mem::take(&mut long_link);
            }
            if header.kind == kind::OLD_REGULAR {
                header.kind = if header.name.ends_with(b"/") { kind::DIRECTORY } else { kind::REGULAR };
            }
            // The records may have another size.
            self.begin(&header)?;
            // GNU tar passes over content of these, Go does not; but both pass over none of a link whose header alone
            // has a size, as some programs write it.
            let may_claim = header.kind == kind::LINK && !header.records.contains_key(b"size".as_slice());
            if is_header_only(header.kind) && header.size != 0 && !may_claim {
                return Err(Malformed::Content.into());
            }
            self.begin_sparse(&mut header, &block)?;
            check_path(&header.name)?;
            check_path(&header.link)?;
            if format.has(Format::USTAR) {
                format = format.and(Format::USTAR);
            }
            header.format = format;
            return Ok(Some(header));
        }
    }

    /// Passes over what is left of the current entry.
    fn skip(&mut self) -> Result<(), FromContent> {
        self.input.consume(std::mem::take(&mut self.lent));
        self.sparse = None;
        while self.left > 0 {
            let available = self.input.fill_buf()?.len();
            if available == 0 {
                return Err(Malformed::Truncated.into());
            }
            let count = available.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.input.consume(count);
            self.left -= count as u64;
        }
        Ok(())
    }

    /// The next block that is a header, if the archive has not ended. Its end is two blocks of zeros, or where
    /// there is nothing any more; some programs leave out the last padding.
    fn next_block(&mut self) -> Result<Option<[u8; BLOCK]>, FromContent> {
        while self.padding > 0 {
            let count = self.input.fill_buf()?.len().min(self.padding);
            if count == 0 {
                return Ok(None);
            }
            self.input.consume(count);
            self.padding -= count;
        }
        let mut block = [0; BLOCK];
        for first in [true, false] {
            if self.input.fill_buf()?.is_empty() {
                return Ok(None);
            }
            self.input.read_exact(&mut block)?;
            if block != [0; BLOCK] {
                // A block of zeros alone is nothing.
                return if first { Ok(Some(block)) } else { Err(Malformed::Header.into()) };
            }
        }
        Ok(None)
    }

    fn begin(&mut self, header: &Header) -> Result<(), Malformed> {
        self.left = match header.kind {
            kind if is_header_only(kind) => 0,
            _ => u64::try_from(header.size).map_err(|_| Malformed::Number)?,
        };
        self.padding = (BLOCK - (self.left % BLOCK as u64) as usize) % BLOCK;
        Ok(())
    }

    fn begin_sparse(&mut self, header: &mut Header, block: &[u8; BLOCK]) -> Result<(), FromContent> {
        let mut map = if header.kind == kind::GNU_SPARSE {
            // Another format has the same type with another map.
            if !block[257..265].eq(b"ustar  \0") {
                return Err(Malformed::Sparse.into());
            }
            let input = &mut self.input;
            sparse::from_old_header(header, block, || {
                let mut block = [0; BLOCK];
                input.read_exact(&mut block)?;
                Ok(block)
            })?
        } else {
            match sparse::pax_map(header)? {
                None => return Ok(()),
                Some(PaxMap::Records) => sparse::from_records(header)?,
                Some(PaxMap::Content) => {
                    let (map, taken) = sparse::from_content(&mut self.input, self.left)?;
                    self.left -= taken;
                    map
                }
            }
        };
        if is_header_only(header.kind) {
            return Err(Malformed::Sparse.into());
        }
        sparse::check(&mut map, header.size)?;
        if !self.limits.allow(self.left, header.size.unsigned_abs()) {
            return Err(Malformed::TooSparse.into());
        }
        self.sparse = Some(Sparse { map, position: 0, size: header.size.unsigned_abs() });
        Ok(())
    }

    /// The whole content of an entry that describes another.
    fn special(&mut self) -> Result<Vec<u8>, FromContent> {
        if self.left > MAX_SPECIAL as u64 {
            return Err(Malformed::TooLong.into());
        }
        let mut content = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.input.read_exact(&mut content)?;
        self.left = 0;
        Ok(content)
    }
}
