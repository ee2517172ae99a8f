use buildkit_util_cachedigest::Digest;
use bytes::Bytes;
use prost::Message;

use crate::canonical::{OP, canonical, message_of, name};
use crate::wire::{Reader, Value, put_bytes};
use crate::{Error, Op, SourceOp};

const INPUTS: u32 = 1;
const INPUT_DIGEST: u32 = 1;
const SOURCE: u32 = 3;

/// An op with its encoding, which keeps the fields that this version does not know.
///
/// The op is decoded from its deterministic encoding, so what runs is what the digest covers.
#[derive(Clone, Debug, PartialEq)]
pub struct RawOp {
    op: Op,
    encoded: Bytes,
}

impl RawOp {
    /// Decodes an op; `bytes` need not be the deterministic encoding.
    ///
    /// # Errors
    /// When the bytes are not an op.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_canonical(canonical(OP, bytes)?)
    }

    /// An op made here.
    pub fn new(op: Op) -> Self {
        let encoded = op.encode_deterministic().into();
        Self { op, encoded }
    }

    fn from_canonical(encoded: Vec<u8>) -> Result<Self, Error> {
        let encoded = Bytes::from(encoded);
        Ok(Self { op: Op::decode(encoded.clone())?, encoded })
    }

    /// The op.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// The op, without what is not known of it.
    pub fn into_op(self) -> Op {
        self.op
    }

    /// The deterministic encoding.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The digest of the deterministic encoding.
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.encoded)
    }

    /// Replaces the digests of all inputs, in order.
    ///
    /// # Errors
    /// When there are not as many as inputs; the op is as it was then.
    pub fn set_input_digests<S: AsRef<str>>(
        &mut self,
        digests: impl IntoIterator<Item = S>,
    ) -> Result<(), Error> {
        let digests: Vec<S> = digests.into_iter().collect();
        let inputs = self.op.inputs.len();
        if digests.len() != inputs {
            return Err(Error::InputCount { inputs, given: digests.len() });
        }
        let old = self.op.inputs.iter().map(|input| input.digest.as_str());
        if old.eq(digests.iter().map(AsRef::as_ref)) {
            return Ok(());
        }
        let mut digests = digests.iter();
        *self = self.rewritten(INPUTS, |input| {
            if let Some(digest) = digests.next() {
                // Of two values of one field the later counts.
                put_bytes(input, INPUT_DIGEST, digest.as_ref().as_bytes());
            }
        })?;
        Ok(())
    }

    /// Replaces identifier and attributes of a source op.
    ///
    /// # Errors
    /// When the op is not a source; it is as it was then.
    pub fn set_source(&mut self, source: &SourceOp) -> Result<(), Error> {
        if !matches!(self.op.op, Some(crate::op::Op::Source(_))) {
            return Err(Error::NotSource);
        }
        let mut failed = None;
        let next = self.rewritten(SOURCE, |old| match unknown_fields(old) {
            Ok(unknown) => {
                *old = source.encode_deterministic();
                old.extend_from_slice(&unknown);
            }
            Err(error) => failed = Some(error),
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        *self = next;
        Ok(())
    }

    /// The op after a change to the encodings of one of its fields with messages.
    fn rewritten(&self, number: u32, mut change: impl FnMut(&mut Vec<u8>)) -> Result<Self, Error> {
        let inner = message_of(OP, number)
            .ok_or(Error::Malformed { message: name(OP), reason: "the field is not known" })?;
        let mut out = Vec::with_capacity(self.encoded.len());
        let mut reader = Reader::new(&self.encoded, name(OP));
        while let Some(field) = reader.field()? {
            match field.value {
                Value::Bytes(bytes) if field.number == number => {
                    let mut message = bytes.to_vec();
                    change(&mut message);
                    put_bytes(&mut out, number, &canonical(inner, &message)?);
                }
                _ => out.extend_from_slice(field.raw),
            }
        }
        Self::from_canonical(out)
    }
}

/// The fields of an encoded source op that are not its identifier or attributes.
fn unknown_fields(source: &[u8]) -> Result<Vec<u8>, Error> {
    let mut unknown = Vec::new();
    let mut reader = Reader::new(source, "pb.SourceOp");
    while let Some(field) = reader.field()? {
        if field.number > 2 {
            unknown.extend_from_slice(field.raw);
        }
    }
    Ok(unknown)
}

/// For fuzzing: decoding arbitrary bytes keeps its promises.
///
/// # Panics
/// When a promise is broken.
#[cfg(any(test, feature = "test-util"))]
pub fn fuzz_raw_op(bytes: &[u8]) {
    let Ok(mut op) = RawOp::decode(bytes) else {
        return;
    };
    let again = RawOp::decode(op.encoded()).expect("a canonical encoding decodes");
    assert_eq!(again.encoded(), op.encoded(), "canonical encodings do not change");
    assert_eq!(again.op(), op.op());
    // What is known is encoded alike by both ways.
    let known = RawOp::new(op.op().clone());
    let encoded = canonical(OP, &op.op().encode_to_vec());
    assert_eq!(encoded.ok().as_ref(), Some(known.encoded()).map(|bytes| bytes.to_vec()).as_ref());
    let digests: Vec<_> = (0..op.op().inputs.len()).map(|at| format!("sha256:{at}")).collect();
    op.set_input_digests(&digests).expect("digests fit");
    let set: Vec<_> = op.op().inputs.iter().map(|input| input.digest.clone()).collect();
    assert_eq!(set, digests);
}
