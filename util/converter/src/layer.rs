use std::io::{self, Write};

use buildkit_util_cachedigest::{BackgroundDigester, Digest};
use buildkit_util_compression::{Compression, Config, Encoder};

use crate::estargz::{EStargz, EStargzWriter};

/// What a layer is that was compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the layer when it is not compressed.
    pub diff_id: Digest,
    /// Bytes of it then.
    pub size: u64,
    /// What readers of `EStargz` need to know.
    pub estargz: Option<EStargz>,
}

impl Layer {
    /// Annotations for the descriptor of the layer that its compression asks for.
    pub fn annotations(&self) -> Vec<(&'static str, String)> {
        let Some(estargz) = &self.estargz else { return Vec::new() };
        vec![
            ("containerd.io/snapshot/stargz/toc.digest", estargz.toc_digest.to_string()),
            ("io.containers.estargz.uncompressed-size", self.size.to_string()),
        ]
    }
}

/// Compresses a layer that is written to it, an archive, and hashes it on the way. Without
/// [`finish`](Self::finish) the output is incomplete.
pub struct LayerWriter<W: Write> {
    inner: Inner<W>,
    digester: BackgroundDigester,
    size: u64,
}

enum Inner<W: Write> {
    Bytes(Encoder<W>),
    Entries(Box<EStargzWriter<W>>),
}

impl<W: Write> LayerWriter<W> {
    /// A writer to `out`, on all processors.
    ///
    /// # Errors
    /// When the compressor cannot be made.
    pub fn new(config: Config, out: W) -> io::Result<Self> {
        let inner = match config.kind {
            Compression::EStargz => Inner::Entries(Box::new(EStargzWriter::new(out, config.level))),
            _ => Inner::Bytes(Encoder::new(config, out)?),
        };
        Ok(Self { inner, digester: BackgroundDigester::new(), size: 0 })
    }

    /// Ends the layer.
    ///
    /// # Errors
    /// When the rest cannot be written.
    pub fn finish(mut self) -> io::Result<(W, Layer)> {
        let (out, estargz) = match self.inner {
            Inner::Bytes(encoder) => (encoder.finish()?, None),
            Inner::Entries(writer) => {
                let (out, estargz, appended) = writer.finish()?;
                self.digester.update(&appended);
                self.size += appended.len() as u64;
                (out, Some(estargz))
            }
        };
        Ok((out, Layer { diff_id: self.digester.finish(), size: self.size, estargz }))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.inner {
            Inner::Bytes(encoder) => encoder.write(bytes)?,
            Inner::Entries(writer) => writer.write(bytes)?,
        };
        self.digester.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    /// Does nothing: a flush would change the output.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
