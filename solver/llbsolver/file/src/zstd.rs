use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Decompresses all frames of a stream, one after another; skippable ones are skipped.
pub(crate) struct ZstdReader<R> {
    input: R,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    /// Frames whose window is larger than `memory` bytes are an error.
    pub(crate) fn new(input: R, memory: u64) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(memory);
        Self { input, frame, in_frame: false }
    }

    fn next_frame(&mut self) -> io::Result<()> {
        match self.frame.reset(&mut self.input) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
            }
            Err(error) => return Err(damaged(error)),
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        match self.frame.get_checksum_from_data() {
            Some(sum) if Some(sum) != self.frame.get_calculated_checksum() => {
                Err(damaged("Checksum of a zstd frame is wrong"))
            }
            _ => Ok(()),
        }
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if self.input.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.next_frame()?;
                continue;
            }
            if self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let amount = BlockDecodingStrategy::UptoBytes(buf.len());
                self.frame.decode_blocks(&mut self.input, amount).map_err(damaged)?;
            }
            match self.frame.read(buf)? {
                0 if self.frame.is_finished() => self.end_frame()?,
                0 => {}
                count => return Ok(count),
            }
        }
    }
}
