//! The encoding that digests are made of.
//!
//! What Go's protobuf writes with `Deterministic`: fields in the order of their numbers but oneofs
//! after all others, defaults left out, maps sorted by key with both parts of each entry present.
//! prost has its own way with oneofs, which matters in an op, and with maps.

use buildkit_util_cachedigest::Digest;
use prost::Message;

use crate::wire::put_bytes;
use crate::{BuildOp, Definition, Op, OpMetadata, Source, SourceOp, map, op};

const INPUTS: u32 = 1;
const PLATFORM: u32 = 10;
const CONSTRAINTS: u32 = 11;

impl Op {
    /// The op's deterministic encoding.
    ///
    /// Fields that are not known here are lost before: [`crate::RawOp`] keeps them.
    pub fn encode_deterministic(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        for input in &self.inputs {
            put_bytes(&mut out, INPUTS, &input.encode_to_vec());
        }
        if let Some(platform) = &self.platform {
            put_bytes(&mut out, PLATFORM, &platform.encode_to_vec());
        }
        if let Some(constraints) = &self.constraints {
            put_bytes(&mut out, CONSTRAINTS, &constraints.encode_to_vec());
        }
        match &self.op {
            Some(op::Op::Source(source)) if !source.is_canonical() => {
                let mut canonical = source.clone();
                canonical.canonicalise();
                op::Op::Source(canonical).encode(&mut out);
            }
            Some(op::Op::Build(build)) => {
                let mut canonical = build.clone();
                canonical.canonicalise();
                op::Op::Build(canonical).encode(&mut out);
            }
            Some(op) => op.encode(&mut out),
            None => {}
        }
        out
    }

    /// The digest of the deterministic encoding, which is what inputs and metadata refer to.
    pub fn digest(&self) -> Digest {
        Digest::sha256(self.encode_deterministic())
    }
}

impl SourceOp {
    /// The deterministic encoding.
    pub fn encode_deterministic(&self) -> Vec<u8> {
        if self.is_canonical() {
            return self.encode_to_vec();
        }
        let mut canonical = self.clone();
        canonical.canonicalise();
        canonical.encode_to_vec()
    }

    fn is_canonical(&self) -> bool {
        map::is_canonical(&self.attrs)
    }

    fn canonicalise(&mut self) {
        map::canonicalise(&mut self.attrs);
    }
}

impl Definition {
    /// The deterministic encoding.
    pub fn encode_deterministic(&self) -> Vec<u8> {
        let mut canonical = self.clone();
        canonical.canonicalise();
        canonical.encode_to_vec()
    }

    /// Brings all maps, nested ones too, into deterministic order.
    pub fn canonicalise(&mut self) {
        map::canonicalise(&mut self.metadata);
        for entry in &mut self.metadata {
            if let Some(metadata) = &mut entry.value {
                metadata.canonicalise();
            }
        }
        if let Some(source) = &mut self.source {
            source.canonicalise();
        }
    }
}

impl OpMetadata {
    fn canonicalise(&mut self) {
        map::canonicalise(&mut self.description);
        map::canonicalise(&mut self.caps);
    }
}

impl BuildOp {
    fn canonicalise(&mut self) {
        map::canonicalise(&mut self.inputs);
        map::canonicalise(&mut self.attrs);
        if let Some(definition) = &mut self.def {
            definition.canonicalise();
        }
    }
}

impl Source {
    fn canonicalise(&mut self) {
        map::canonicalise(&mut self.locations);
        for info in &mut self.infos {
            if let Some(definition) = &mut info.definition {
                definition.canonicalise();
            }
        }
    }
}
