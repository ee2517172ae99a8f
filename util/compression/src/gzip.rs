//! gzip on several threads (RFC 1952, RFC 1951).
//!
//! The content is cut into blocks of a fixed size. Each is compressed by itself, with the end of the block
//! before as dictionary and with its end on a byte, so that what comes out can be put together as one
//! member.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use crc32fast::Hasher;
use flate2::{Compress, FlushCompress, Status};

/// Bytes of a block. The output depends on it.
const BLOCK: usize = 512 << 10;
/// How far back deflate can refer.
const WINDOW: usize = 32 << 10;
/// Threads at most: beyond, whoever feeds them is the slowest.
const MAX_THREADS: usize = 16;

/// Magic, deflate, no flags, no time, no extra flags, unknown system: the same as Go's library writes.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

struct Block {
    data: Vec<u8>,
    /// The end of what came before.
    dictionary: Vec<u8>,
    last: bool,
}

struct Job {
    block: Block,
    done: Sender<io::Result<Done>>,
}

struct Done {
    compressed: Vec<u8>,
    crc: Hasher,
    /// Memory to use again.
    data: Vec<u8>,
}

/// Writes one member of gzip.
pub(crate) struct GzipWriter<W: Write> {
    out: W,
    jobs: Option<Sender<Job>>,
    threads: usize,
    waiting: VecDeque<Receiver<io::Result<Done>>>,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    spare: Vec<Vec<u8>>,
    crc: Hasher,
    length: u64,
    level: u32,
    started: bool,
}

impl<W: Write> GzipWriter<W> {
    pub(crate) fn new(out: W, level: u32, threads: Option<usize>) -> Self {
        let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        Self {
            out,
            jobs: None,
            threads: threads.clamp(1, MAX_THREADS),
            waiting: VecDeque::new(),
            block: Vec::new(),
            dictionary: Vec::new(),
            spare: Vec::new(),
            crc: Hasher::new(),
            length: 0,
            level,
            started: false,
        }
    }

    pub(crate) fn get_ref(&self) -> &W {
        &self.out
    }

    /// Hands the current block on to be compressed.
    fn submit(&mut self, last: bool) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.out.write_all(&HEADER)?;
        }
        let data = std::mem::replace(&mut self.block, self.spare.pop().unwrap_or_default());
        let tail = data[data.len().saturating_sub(WINDOW)..].to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        let block = Block { data, dictionary, last };
        // What fits into one block needs no thread.
        if last && self.jobs.is_none() {
            let done = compress(self.level, block)?;
            return self.put(done);
        }
        while self.waiting.len() > self.threads {
            self.take_first()?;
        }
        let (done, receiver) = channel();
        let gone = || io::Error::other("threads that compress have ended");
        self.jobs()?.send(Job { block, done }).map_err(|_| gone())?;
        self.waiting.push_back(receiver);
        Ok(())
    }

    /// The way to the threads; starts them first.
    fn jobs(&mut self) -> io::Result<&Sender<Job>> {
        if self.jobs.is_none() {
            let (sender, receiver) = channel::<Job>();
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..self.threads {
                let (receiver, level) = (receiver.clone(), self.level);
                // They end when the sender is dropped.
                Builder::new().name("gzip".to_owned()).spawn(move || work(&receiver, level))?;
            }
            self.jobs = Some(sender);
        }
        self.jobs.as_ref().ok_or_else(|| io::Error::other("no threads to compress"))
    }

    fn take_first(&mut self) -> io::Result<()> {
        let Some(first) = self.waiting.pop_front() else { return Ok(()) };
        let done = first.recv().map_err(|_| io::Error::other("a thread that compresses has ended"))??;
        self.put(done)
    }

    fn put(&mut self, done: Done) -> io::Result<()> {
        self.out.write_all(&done.compressed)?;
        self.crc.combine(&done.crc);
        let mut data = done.data;
        self.length += data.len() as u64;
        data.clear();
        self.spare.push(data);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        while !self.waiting.is_empty() {
            self.take_first()?;
        }
        self.out.write_all(&self.crc.clone().finalize().to_le_bytes())?;
        // The length is modulo 2^32.
        self.out.write_all(&(self.length as u32).to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() < BLOCK {
            self.block.reserve_exact(BLOCK);
        }
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        // Not before there is more: the last block is marked.
        if self.block.len() == BLOCK && count < bytes.len() {
            self.submit(false)?;
            return self.write(&bytes[count..]).map(|more| count + more);
        }
        if count == 0 && !bytes.is_empty() {
            self.submit(false)?;
            return self.write(bytes);
        }
        Ok(count)
    }

    /// Does nothing: what is not a block yet cannot be written without changing the output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, level: u32) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, done }) = next else { return };
        // Whoever waited may be gone.
        let _ = done.send(compress(level, block));
    }
}

fn compress(level: u32, block: Block) -> io::Result<Done> {
    let Block { data, dictionary, last } = block;
    // A new one for each block: what one that is reset writes depends on what it compressed before.
    let mut deflate = Compress::new(flate2::Compression::new(level), false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(&dictionary).map_err(io::Error::other)?;
    }
    let mut crc = Hasher::new();
    crc.update(&data);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    // Stored blocks are five bytes longer for each 64 KiB, and a flush takes six.
    let mut compressed = Vec::with_capacity(data.len() / 2 + 1024);
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = data.get(consumed..).unwrap_or_default();
        let status = deflate.compress_vec(rest, &mut compressed, flush).map_err(io::Error::other)?;
        let room = compressed.len() < compressed.capacity();
        match status {
            Status::StreamEnd => break,
            // With room left, a flush is complete.
            Status::Ok | Status::BufError if !last && room && deflate.total_in() == data.len() as u64 => {
                break;
            }
            Status::Ok | Status::BufError => compressed.reserve(compressed.len().max(4096)),
        }
    }
    Ok(Done { compressed, crc, data })
}
