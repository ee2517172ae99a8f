//! Reading and writing the protobuf wire format field by field.

use crate::Error;

/// A field's value as it is on the wire; groups have no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawField<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// All of it, the tag too.
    pub(crate) raw: &'a [u8],
}

/// Walks over the fields of an encoded message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    message: &'static str,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED32: u64 = 5;

const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

impl<'a> Reader<'a> {
    /// `message` is the name for errors.
    pub(crate) fn new(bytes: &'a [u8], message: &'static str) -> Self {
        Self { rest: bytes, message }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn error(&self, reason: &'static str) -> Error {
        Error::Malformed { message: self.message, reason }
    }

    /// The next field, or `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<RawField<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.rest;
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            VARINT => Value::Varint(self.varint()?),
            BYTES => Value::Bytes(self.bytes()?),
            _ => {
                self.skip(wire_type)?;
                Value::Other
            }
        };
        let raw = &start[..start.len() - self.rest.len()];
        Ok(Some(RawField { number, value, raw }))
    }

    /// The next number of a packed field.
    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().copied().enumerate().take(10) {
            if at == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (at * 7);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(self.error(if self.rest.len() < 10 { TRUNCATED } else { "a varint is too long" }))
    }

    fn tag(&mut self) -> Result<(u32, u64), Error> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > MAX_FIELD_NUMBER {
            return Err(self.error("a field number is out of range"));
        }
        Ok((number as u32, tag & 7))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Error> {
        let split = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (taken, rest) = split.ok_or_else(|| self.error(TRUNCATED))?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Skips what follows a tag; groups without recursion.
    fn skip(&mut self, wire_type: u64) -> Result<(), Error> {
        let mut open = 0usize;
        let mut wire_type = wire_type;
        loop {
            match wire_type {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.take(8)?),
                BYTES => drop(self.bytes()?),
                FIXED32 => drop(self.take(4)?),
                GROUP => open += 1,
                GROUP_END if open > 0 => open -= 1,
                _ => return Err(self.error("a wire type is not valid")),
            }
            if open == 0 {
                return Ok(());
            }
            wire_type = self.tag()?.1;
        }
    }
}

const TRUNCATED: &str = "it ends within a field";

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field with a varint.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | VARINT);
    put_varint(out, value);
}

/// Appends a field with a length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_varint(out, u64::from(number) << 3 | BYTES);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}
