//! Threads that compress blocks with deflate.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use crc32fast::Hasher;
use libdeflater::{CompressionLvl, Compressor};

use crate::deflate::open_ends;

/// Threads at most: beyond, whoever feeds them is the slowest.
const MAX_THREADS: usize = 16;

pub(crate) struct Block {
    pub data: Vec<u8>,
    /// Whether the stream ends with it.
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
    let mut deflate = None;
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, done }) = next else { return };
        // Whoever waited may be gone.
        let _ = done.send(deflate.get_or_insert_with(|| Deflate::new(level)).compress(block));
    }
}

/// Compresses one block after the other; what comes out depends on the block alone.
pub(crate) struct Deflate {
    compressor: Compressor,
    out: Vec<u8>,
}

impl Deflate {
    /// `level` is from 0 to 9.
    pub(crate) fn new(level: u32) -> Self {
        let level = CompressionLvl::new(level.min(9) as i32).unwrap_or_default();
        Self { compressor: Compressor::new(level), out: Vec::new() }
    }

    pub(crate) fn compress(&mut self, block: Block) -> io::Result<Done> {
        let Block { data, last } = block;
        let mut crc = Hasher::new();
        crc.update(&data);
        let compressed = if last {
            self.stream(&data)?
        } else {
            let (first, second) = data.split_at(data.len() / 2);
            let (mut first, mut second) = (self.stream(first)?, self.stream(second)?);
            open_ends([&mut first, &mut second])?;
            first.extend_from_slice(&second);
            first
        };
        Ok(Done { compressed, crc, data })
    }

    fn stream(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        let bound = self.compressor.deflate_compress_bound(data.len());
        if self.out.len() < bound {
            self.out.resize(bound, 0);
        }
        let length = self.compressor.deflate_compress(data, &mut self.out).map_err(io::Error::other)?;
        Ok(self.out[..length].to_vec())
    }
}
