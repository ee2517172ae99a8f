//! The codes of a stream of deflate, as far as it takes to get over them (RFC 1951, 3.2).

use std::io;

/// The order in which the lengths of the codes for lengths are written.
const CODE_LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Codes of literals and lengths; those from `END_OF_BLOCK` on are no literals.
const LITERALS: usize = 286;
const END_OF_BLOCK: usize = 256;
const DISTANCES: usize = 30;
const MAX_CODE: usize = 15;

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("deflate made {what}"))
}

/// Reads bits, the lowest of a byte first. Behind the end there are zeros.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a> {
    pub(crate) bytes: &'a [u8],
    /// Bytes that are in the buffer or were.
    pub(crate) next: usize,
    /// The next bits; those above `count` may be set to what comes there.
    pub(crate) buffer: u64,
    pub(crate) count: u32,
}

impl Bits<'_> {
    /// After this, there are at least 56 bits.
    pub(crate) fn refill(&mut self) {
        let word = match self.bytes.get(self.next..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => {
                let mut bytes = [0; 8];
                let rest = self.bytes.get(self.next..).unwrap_or_default();
                bytes[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(bytes)
            }
        };
        self.buffer |= word << self.count;
        let added = (63 - self.count) / 8;
        self.next += added as usize;
        self.count += added * 8;
    }

    pub(crate) fn skip(&mut self, count: u32) {
        self.buffer >>= count;
        self.count -= count;
    }

    /// At most 16 bits, of those that are there.
    pub(crate) fn take(&mut self, count: u32) -> usize {
        let value = self.buffer & ((1 << count) - 1);
        self.skip(count);
        value as usize
    }

    pub(crate) fn position(&self) -> usize {
        self.next * 8 - self.count as usize
    }

    pub(crate) fn skip_stored(&mut self) -> io::Result<()> {
        let start = self.position().div_ceil(8);
        let header = self.bytes.get(start..start + 4).ok_or_else(|| invalid("a stream without an end"))?;
        let length = u16::from_le_bytes([header[0], header[1]]);
        if length != !u16::from_le_bytes([header[2], header[3]]) {
            return Err(invalid("a stored block with a wrong length"));
        }
        (self.next, self.buffer, self.count) = (start + 4 + usize::from(length), 0, 0);
        Ok(())
    }
}

/// The canonical codes of some lengths in bits, 0 for those that are not used: calls `found` with the number of each
/// and its bits, of which the first is the lowest.
fn assign_codes(lengths: &[u8], mut found: impl FnMut(usize, u8, usize)) -> io::Result<()> {
    let mut counts = [0usize; MAX_CODE + 1];
    for &length in lengths.iter().filter(|length| **length > 0) {
        counts[usize::from(length)] += 1;
    }
    let mut next = [0usize; MAX_CODE + 1];
    for length in 1..=MAX_CODE {
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
    }
    for (number, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let code = next[usize::from(length)];
        next[usize::from(length)] += 1;
        if code >> length != 0 {
            return Err(invalid("more codes than there can be"));
        }
        // They are written from their highest bit on.
        found(number, length, code.reverse_bits() >> (usize::BITS - u32::from(length)));
    }
    Ok(())
}

fn longest(lengths: &[u8]) -> u8 {
    lengths.iter().copied().max().unwrap_or(0).max(1)
}

/// How to get over the next code, by the bits that come next: how many bits the code and what belongs to it have, and
/// flags. Literals and lengths are in the lower half, distances in the upper. One array without branches between codes
/// makes this several times faster than a decoder.
pub(crate) struct Steps {
    steps: Box<[u8; 1 << (MAX_CODE + 1)]>,
    /// How many bits are looked at.
    pub(crate) width: u8,
}

/// The bits of a step.
pub(crate) const BITS: u8 = 31;
/// A distance is next.
pub(crate) const THEN_DISTANCE: u8 = 1 << 5;
/// The end of the block, or, if it has no bits, no code.
pub(crate) const STOP: u8 = 1 << 6;

impl Default for Steps {
    fn default() -> Self {
        Self { steps: Box::new([STOP; 1 << (MAX_CODE + 1)]), width: 1 }
    }
}

impl Steps {
    /// RFC 1951, 3.2.6.
    pub(crate) fn set_fixed(&mut self) -> io::Result<()> {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.set(&lengths, &[5; DISTANCES])
    }

    fn set(&mut self, literals: &[u8], distances: &[u8]) -> io::Result<()> {
        self.width = longest(literals).max(longest(distances));
        let size = 1usize << self.width;
        self.steps[..2 * size].fill(STOP);
        let (lower, upper) = self.steps[..2 * size].split_at_mut(size);
        assign_codes(literals, |number, length, code| {
            let step = (length + literal_extra(number)) | literal_flags(number);
            (code..size).step_by(1 << length).for_each(|at| lower[at] = step);
        })?;
        assign_codes(distances, |number, length, code| {
            let step = length + distance_extra(number);
            (code..size).step_by(1 << length).for_each(|at| upper[at] = step);
        })
    }

    /// RFC 1951, 3.2.7.
    pub(crate) fn read(&mut self, bits: &mut Bits<'_>) -> io::Result<()> {
        bits.refill();
        let literals = 257 + bits.take(5);
        let distances = 1 + bits.take(5);
        let count = 4 + bits.take(4);
        if literals > LITERALS || distances > DISTANCES {
            return Err(invalid("a block with too many codes"));
        }
        let mut code_lengths = [0; 19];
        for &at in &CODE_LENGTH_ORDER[..count] {
            bits.refill();
            code_lengths[at] = bits.take(3) as u8;
        }
        // By seven bits, how many of them are a code, and which one.
        let mut codes = [(0, 0); 1 << 7];
        assign_codes(&code_lengths, |number, length, code| {
            (code..codes.len()).step_by(1 << length).for_each(|at| codes[at] = (length, number as u8));
        })?;
        let mut lengths = [0u8; LITERALS + DISTANCES];
        let (all, mut filled) = (literals + distances, 0);
        while filled < all {
            bits.refill();
            let (length, number) = codes[(bits.buffer & 0x7f) as usize];
            if length == 0 {
                return Err(invalid("an unknown code"));
            }
            bits.skip(length.into());
            let (value, times) = match number {
                value @ 0..=15 => (value, 1),
                16 => match filled.checked_sub(1) {
                    Some(before) => (lengths[before], 3 + bits.take(2)),
                    None => return Err(invalid("a repetition of nothing")),
                },
                17 => (0, 3 + bits.take(3)),
                _ => (0, 11 + bits.take(7)),
            };
            let run = lengths[..all].get_mut(filled..filled + times);
            run.ok_or_else(|| invalid("a block with too many codes"))?.fill(value);
            filled += times;
        }
        self.set(&lengths[..literals], &lengths[literals..all])
    }

    #[inline]
    pub(crate) fn look(&self, half: u64, buffer: u64) -> u8 {
        let mask = (1 << self.width) - 1;
        self.steps[usize::from((half | buffer & mask) as u16)]
    }
}

/// Bits behind the code of a literal or length (RFC 1951, 3.2.5).
fn literal_extra(number: usize) -> u8 {
    match number {
        0..=264 | 285.. => 0,
        _ => ((number - 261) / 4) as u8,
    }
}

fn literal_flags(number: usize) -> u8 {
    match number {
        0..END_OF_BLOCK => 0,
        END_OF_BLOCK => STOP,
        _ => THEN_DISTANCE,
    }
}

/// Bits behind the code of a distance.
fn distance_extra(number: usize) -> u8 {
    (number.max(2) / 2 - 1) as u8
}
