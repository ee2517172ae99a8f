//! Threads that compress blocks with deflate.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use crc32fast::Hasher;
use flate2::{Compress, FlushCompress, Status};

/// Threads at most: beyond, whoever feeds them is the slowest.
const MAX_THREADS: usize = 16;

pub(crate) struct Block {
    pub data: Vec<u8>,
    /// The end of what came before.
    pub dictionary: Vec<u8>,
    pub last: bool,
}

struct Job {
    block: Block,
    done: Sender<io::Result<Done>>,
}

pub(crate) struct Done {
    pub compressed: Vec<u8>,
    pub crc: Hasher,
    /// Memory to use again.
    pub data: Vec<u8>,
}

/// Compresses blocks on several threads and gives them back in their order.
pub(crate) struct Pool {
    jobs: Option<Sender<Job>>,
    threads: usize,
    waiting: VecDeque<Receiver<io::Result<Done>>>,
    level: u32,
}

impl Pool {
    pub(crate) fn new(level: u32, threads: Option<usize>) -> Self {
        let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        Self { jobs: None, threads: threads.clamp(1, MAX_THREADS), waiting: VecDeque::new(), level }
    }

    /// Whether there was more than one block.
    pub(crate) fn is_running(&self) -> bool {
        self.jobs.is_some()
    }

    /// Whether blocks should be taken before more are submitted, so that memory is bounded.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() > self.threads
    }

    pub(crate) fn submit(&mut self, block: Block) -> io::Result<()> {
        let (done, receiver) = channel();
        let gone = || io::Error::other("threads that compress have ended");
        self.jobs()?.send(Job { block, done }).map_err(|_| gone())?;
        self.waiting.push_back(receiver);
        Ok(())
    }

    /// The first block that was not taken yet.
    pub(crate) fn take(&mut self) -> io::Result<Option<Done>> {
        let Some(first) = self.waiting.pop_front() else { return Ok(None) };
        let done = first.recv().map_err(|_| io::Error::other("a thread that compresses has ended"))??;
        Ok(Some(done))
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
}

fn work(jobs: &Mutex<Receiver<Job>>, level: u32) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, done }) = next else { return };
        // Whoever waited may be gone.
        let _ = done.send(compress(level, block));
    }
}

pub(crate) fn compress(level: u32, block: Block) -> io::Result<Done> {
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
