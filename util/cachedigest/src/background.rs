use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::{Digest, Digester};

/// Bytes that are hashed where they arrive: less is not worth a thread.
const INLINE: usize = 1 << 20;
/// Bytes that are handed to the thread at a time.
const PART: usize = 256 << 10;
/// Parts that wait for it.
const WAITING: usize = 4;

/// A [`Digester`] for long content: it hashes on a thread of its own, while the one that calls it reads or writes.
///
/// The thread ends with it. For content below 1 MiB there is none.
pub struct BackgroundDigester {
    state: State,
    /// What the thread was not given yet.
    part: Vec<u8>,
    /// Bytes that were hashed without one.
    seen: usize,
}

enum State {
    Here(Digester),
    Thread(Hasher),
}

struct Hasher {
    parts: SyncSender<Vec<u8>>,
    /// Parts to be filled again.
    spare: Receiver<Vec<u8>>,
    thread: JoinHandle<Digester>,
}

impl Default for BackgroundDigester {
    fn default() -> Self {
        Self { state: State::Here(Digester::new()), part: Vec::new(), seen: 0 }
    }
}

impl BackgroundDigester {
    /// A digester that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes. Waits if the thread is far behind.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if let State::Here(digester) = &mut self.state {
            if self.seen < INLINE {
                self.seen += bytes.len();
                digester.update(bytes);
                return;
            }
            match Hasher::start(digester.clone()) {
                Some(hasher) => self.state = State::Thread(hasher),
                None => {
                    digester.update(bytes);
                    return;
                }
            }
        }
        while !bytes.is_empty() {
            if self.part.capacity() == 0 {
                self.part.reserve_exact(PART);
            }
            let count = bytes.len().min(PART - self.part.len());
            self.part.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.part.len() == PART {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let State::Thread(hasher) = &self.state else { return };
        let next = match hasher.spare.try_recv() {
            Ok(mut part) => {
                part.clear();
                part
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Vec::new(),
        };
        // If the thread panicked, `finish` says so.
        let _ = hasher.parts.send(std::mem::replace(&mut self.part, next));
    }

    /// The digest of all bytes seen.
    pub fn finish(mut self) -> Digest {
        if !self.part.is_empty() {
            self.hand_over();
        }
        match self.state {
            State::Here(digester) => digester.finish(),
            State::Thread(Hasher { parts, thread, .. }) => {
                drop(parts);
                match thread.join() {
                    Ok(digester) => digester.finish(),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        }
    }
}

impl Hasher {
    /// `None` if there can be no more threads.
    fn start(mut digester: Digester) -> Option<Self> {
        let (parts, to_hash) = sync_channel::<Vec<u8>>(WAITING);
        let (hashed, spare) = channel();
        let work = move || {
            for part in to_hash {
                digester.update(&part);
                // Whoever filled it may need no more.
                let _ = hashed.send(part);
            }
            digester
        };
        let thread = Builder::new().name("sha256".to_owned()).spawn(work).ok()?;
        Some(Self { parts, spare, thread })
    }
}

impl std::io::Write for BackgroundDigester {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        let data: Vec<u8> =
            (0..5_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0, 1, INLINE, INLINE + 1, INLINE + PART, INLINE + PART + 1, data.len()] {
            for step in [1000, 64 << 10, PART, INLINE, 3_000_000] {
                let mut digester = BackgroundDigester::new();
                for part in data[..len].chunks(step) {
                    digester.update(part);
                }
                assert_eq!(digester.finish(), Digest::sha256(&data[..len]), "{len} bytes by {step}");
            }
        }
    }

    #[test]
    fn one_that_is_not_finished_ends_its_thread() {
        let mut digester = BackgroundDigester::new();
        for _ in 0..3 {
            digester.update(&vec![7; INLINE]);
        }
        let State::Thread(hasher) = digester.state else { panic!("no thread for three MiB") };
        let Hasher { parts, thread, .. } = hasher;
        drop(parts);
        assert!(thread.join().is_ok());
    }
}
