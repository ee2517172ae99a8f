use std::io::{BufRead, BufWriter, Read, Write};

use buildkit_util_cachedigest::{Digest, HashingReader};
use buildkit_util_compression::{Config, Limits, detect, limited_decoder};

use crate::layer::{Layer, LayerWriter};
use crate::{Error, rewrite_times};

/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;

/// What is made of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Its compression.
    pub to: Config,
    /// No time in it is later than this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// How far it may grow when it is decompressed.
    pub limits: Limits,
}

/// Writes a layer, whose compression its first bytes tell, with another one, and gives the digest that it had when
/// it was not compressed, too.
///
/// Of a layer in `EStargz`, `input` should end where [`estargz_payload`](crate::estargz_payload) says: what is behind
/// is no part of the layer that was compressed.
///
/// # Errors
/// When the layer cannot be decompressed or is not a valid archive where it has to be, and when `out` fails.
pub fn convert(
    mut input: impl BufRead + Send,
    conversion: &Conversion,
    out: &mut dyn Write,
) -> Result<(Layer, Digest), Error> {
    let kind = detect(input.fill_buf().map_err(Error::Read)?);
    let decoder = limited_decoder(kind, input, conversion.limits).map_err(Error::Read)?;
    let mut source = HashingReader::new(decoder);
    let mut writer = LayerWriter::new(conversion.to, out).map_err(Error::Write)?;
    match conversion.epoch {
        Some(epoch) => {
            let mut buffered = BufWriter::with_capacity(BUFFER, &mut writer);
            rewrite_times(&mut source, &mut buffered, epoch, conversion.limits)?;
            buffered.flush().map_err(Error::Write)?;
        }
        None => copy(&mut source, &mut writer)?,
    }
    let (_, layer) = writer.finish().map_err(Error::Write)?;
    Ok((layer, source.finish()))
}

fn copy(input: &mut dyn Read, out: &mut dyn Write) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = input.read(&mut buffer).map_err(Error::Read)?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count]).map_err(Error::Write)?;
    }
}
