//! The encoding that digests are made of.
//!
//! Fields in the order of their numbers, defaults left out, but maps sorted by key and both parts of
//! each entry present: what Go's protobuf writes with `Deterministic`, and `protoc` with
//! `--deterministic_output`. All but the maps is how prost encodes anyway.

use buildkit_util_cachedigest::Digest;
use prost::Message;

use crate::{BuildOp, Definition, Op, OpMetadata, Source, SourceOp, map, op};

impl Op {
    /// The op's deterministic encoding.
    ///
    /// Fields that are not known here are lost before: [`crate::RawOp`] keeps them.
    pub fn encode_deterministic(&self) -> Vec<u8> {
        match &self.op {
            Some(op::Op::Source(source)) if !source.is_canonical() => {}
            // What is nested in a definition may be anything; such ops are rare.
            Some(op::Op::Build(_)) => {}
            _ => return self.encode_to_vec(),
        }
        let mut canonical = self.clone();
        match &mut canonical.op {
            Some(op::Op::Source(source)) => source.canonicalise(),
            Some(op::Op::Build(build)) => build.canonicalise(),
            _ => {}
        }
        canonical.encode_to_vec()
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
