//! Streams of deflate (RFC 1951) that are followed by others.
//!
//! A stream that was compressed as a whole ends with a block that says that it is the last one, in the middle of
//! a byte. [`open_ends`] takes that mark away and fills the byte, so that whatever is appended belongs to the same
//! stream. To find the last block, all codes are walked over; what they stand for is of no interest.

use std::io;

use crate::codes::{BITS, Bits, STOP, Steps, THEN_DISTANCE, invalid};

/// An empty block that is not compressed, from the first whole byte on: no bytes, and its complement.
const EMPTY_BLOCK: [u8; 4] = [0, 0, 0xff, 0xff];

/// Makes complete streams such that go on: what is appended to one must be blocks of deflate, the last of which is
/// marked as such.
///
/// # Errors
/// When one is not exactly one stream.
pub(crate) fn open_ends(streams: [&mut Vec<u8>; 2]) -> io::Result<()> {
    let [first, second] = streams;
    let mut walks = [Walk::start(first)?, Walk::start(second)?];
    // Each step waits for the one before it: two streams side by side take hardly more time than one.
    while let [Walk { ends: None, .. }, Walk { ends: None, .. }] = walks {
        let [first, second] = &mut walks;
        // Copies, which can be in registers.
        let (mut first_at, mut second_at) = (first.at, second.at);
        while !(first_at.step(&first.steps) | second_at.step(&second.steps)) {}
        (first.at, second.at) = (first_at, second_at);
        first.end_block()?;
        second.end_block()?;
    }
    let [first_ends, second_ends] = walks.map(Walk::finish);
    open_at(first, first_ends?);
    open_at(second, second_ends?);
    Ok(())
}

/// As [`open_ends`], for one.
#[cfg(test)]
fn open_end(stream: &mut Vec<u8>) -> io::Result<()> {
    let ends = Walk::start(stream)?.finish()?;
    open_at(stream, ends);
    Ok(())
}

fn open_at(stream: &mut Vec<u8>, ends: Ends) {
    stream[ends.last_block / 8] &= !(1 << (ends.last_block % 8));
    // The three bits of the empty block's header are zeros, as the rest of the byte is, if there are as many.
    let rest = stream.len() * 8 - ends.end;
    if rest < 3 {
        stream.push(0);
    }
    stream.extend_from_slice(&EMPTY_BLOCK);
}

/// Positions in bits.
#[derive(Clone, Copy)]
struct Ends {
    /// Where the mark of the last block is.
    last_block: usize,
    /// Where the stream ends.
    end: usize,
}

/// Goes over the codes of a stream.
struct Walk<'a> {
    at: Place<'a>,
    steps: Steps,
    /// Where the current block begins, and whether it is the last one.
    block: usize,
    is_last: bool,
    ends: Option<Ends>,
}

/// A place among the codes of a block.
#[derive(Clone, Copy)]
struct Place<'a> {
    bits: Bits<'a>,
    /// Where the steps of what comes next begin.
    half: u64,
    /// The last step.
    step: u8,
}

impl Place<'_> {
    /// Goes over two codes; `true` when the block has ended or there is something wrong.
    #[inline]
    fn step(&mut self, steps: &Steps) -> bool {
        // A length takes at most 20 bits and a distance 28: enough for two of whatever comes.
        self.bits.refill();
        for _ in 0..2 {
            self.step = steps.look(self.half, self.bits.buffer);
            self.bits.skip((self.step & BITS).into());
            if self.step & STOP != 0 {
                return true;
            }
            self.half = (u64::from(self.step & THEN_DISTANCE) / u64::from(THEN_DISTANCE)) << steps.width;
        }
        self.bits.next > self.bits.bytes.len() + 8
    }
}

impl<'a> Walk<'a> {
    fn start(stream: &'a [u8]) -> io::Result<Self> {
        let bits = Bits { bytes: stream, next: 0, buffer: 0, count: 0 };
        let at = Place { bits, half: 0, step: 0 };
        let mut walk = Self { at, steps: Steps::default(), block: 0, is_last: false, ends: None };
        walk.start_block()?;
        Ok(walk)
    }

    /// Goes over headers, up to codes or the end.
    fn start_block(&mut self) -> io::Result<()> {
        self.at.half = 0;
        let bits = &mut self.at.bits;
        while self.ends.is_none() {
            self.block = bits.position();
            bits.refill();
            self.is_last = bits.take(1) == 1;
            match bits.take(2) {
                0 => {
                    bits.skip_stored()?;
                    self.ends = find_ends(bits, self.block, self.is_last)?;
                }
                1 => return self.steps.set_fixed(),
                2 => return self.steps.read(bits),
                _ => return Err(invalid("a block of an unknown type")),
            }
        }
        Ok(())
    }

    /// Goes on with the next block, if this one has ended.
    fn end_block(&mut self) -> io::Result<()> {
        let Place { bits, step, .. } = self.at;
        if step == STOP {
            return Err(invalid("an unknown code"));
        }
        if step & STOP != 0 {
            self.ends = find_ends(&bits, self.block, self.is_last)?;
            return self.start_block();
        }
        if bits.next > bits.bytes.len() + 8 { Err(invalid("a stream without an end")) } else { Ok(()) }
    }

    fn finish(mut self) -> io::Result<Ends> {
        loop {
            if let Some(ends) = self.ends {
                return Ok(ends);
            }
            while !self.at.step(&self.steps) {}
            self.end_block()?;
        }
    }
}

/// Where a stream ends of which a block from `block` on was read, if that was the last one.
fn find_ends(bits: &Bits<'_>, block: usize, is_last: bool) -> io::Result<Option<Ends>> {
    let (end, bytes) = (bits.position(), bits.bytes.len());
    if end > bytes * 8 {
        return Err(invalid("a stream without an end"));
    }
    if is_last && end.div_ceil(8) != bytes {
        return Err(invalid("more than a stream"));
    }
    Ok(is_last.then_some(Ends { last_block: block, end }))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;
    use libdeflater::{CompressionLvl, Compressor};
    use proptest::prelude::*;

    use super::*;

    fn compress(data: &[u8], level: i32) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::new(level).expect("a level"));
        let mut out = vec![0; compressor.deflate_compress_bound(data.len())];
        let length = compressor.deflate_compress(data, &mut out).expect("fits");
        out.truncate(length);
        out
    }

    /// What a foreign decoder makes of parts that were joined.
    fn join(parts: &[&[u8]], level: i32) -> Vec<u8> {
        let mut streams: Vec<_> = parts.iter().map(|part| compress(part, level)).collect();
        let last = streams.len() - 1;
        let (pairs, rest) = streams[..last].as_chunks_mut::<2>();
        for [first, second] in pairs {
            open_ends([first, second]).expect("are streams");
        }
        for stream in rest {
            open_end(stream).expect("is a stream");
        }
        let joined = streams.concat();
        let mut decoded = Vec::new();
        let mut decoder = DeflateDecoder::new(joined.as_slice());
        decoder.read_to_end(&mut decoded).expect("decompresses");
        assert_eq!(decoder.total_in(), joined.len() as u64, "nothing is behind the end");
        decoded
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        std::iter::repeat_with(step).take(len).collect()
    }

    #[test]
    fn joined_streams_are_one() {
        let binary = std::fs::read(std::env::current_exe().expect("this program")).expect("is read");
        let binary = &binary[..binary.len().min(1 << 20)];
        let (zeros, noise, text) = (vec![0; 300_000], noise(200_000), b"to be or not to be ".repeat(20));
        for level in 0..=12 {
            let parts = [binary, b"", &zeros, b"a", &noise, &text, &noise[..1], b""];
            assert!(join(&parts, level) == parts.concat(), "level {level}");
        }
    }

    #[test]
    fn streams_of_others_are_walked_over() {
        let data = b"to be or not to be ".repeat(5000);
        for level in 0..=9 {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
            io::Write::write_all(&mut encoder, &data).expect("compresses");
            let mut stream = encoder.finish().expect("finishes");
            open_end(&mut stream).expect("is a stream");
            stream.extend_from_slice(&compress(b"!", 1));
            let mut decoded = Vec::new();
            DeflateDecoder::new(stream.as_slice()).read_to_end(&mut decoded).expect("decompresses");
            assert!(decoded == [&data[..], b"!"].concat(), "level {level}");
        }
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let good = compress(&b"to be or not to be ".repeat(50), 6);
        for len in 0..good.len() {
            assert!(open_end(&mut good[..len].to_vec()).is_err(), "{len} bytes of {}", good.len());
            assert!(open_ends([&mut good.clone(), &mut good[..len].to_vec()]).is_err(), "{len} bytes");
        }
        assert!(open_end(&mut [&good[..], b"x"].concat()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
        #[test]
        fn parts_of_any_kind_are_joined(
            parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 1usize..300), 1..5),
            level in 0i32..=9,
        ) {
            let parts: Vec<_> = parts.into_iter().map(|(part, times)| part.repeat(times)).collect();
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert!(join(&slices, level) == parts.concat());
        }

        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let good = compress(&b"to be or not to be ".repeat(50), 6);
            let alone = open_end(&mut bytes.clone()).is_ok();
            prop_assert_eq!(open_ends([&mut bytes.clone(), &mut good.clone()]).is_ok(), alone);
        }
    }
}
