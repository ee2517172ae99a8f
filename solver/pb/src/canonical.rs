//! Re-encoding a message canonically without losing what this version does not know.
//!
//! The result is what Go's protobuf makes of the same bytes by decoding and deterministically
//! encoding them: known fields in the order of their numbers, those of oneofs after all others; of a
//! singular one only what counts, defaults left out, numbers packed, maps sorted with whole entries;
//! then the unknown fields, as they came. Nothing here depends on the generated types: a table of
//! fields drives it.

use std::collections::BTreeMap;

use crate::Error;
use crate::wire::{Reader, Value, put_bytes, put_number, put_varint};

/// How deep messages may nest: prost's own limit, which the result has to pass.
const MAX_DEPTH: usize = 100;

/// A message of the table.
pub(crate) struct Message {
    /// Protobuf name.
    pub(crate) name: &'static str,
    /// In the order of their numbers.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) rule: Rule,
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// Enums too.
    Int32,
    Uint32,
    /// Unsigned ones too: they encode alike.
    Int64,
    String,
    Bytes,
    /// With an index into the table.
    Message(usize),
}

/// How often a field occurs, and when it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Written unless it has its default.
    Singular,
    /// Written when set; at most one of a message's group.
    Oneof(usize),
    Repeated,
    Packed,
    Map,
}

mod schema {
    use super::{Field, Kind, Message, Rule};

    include!("generated/schema.rs");
}

/// The op message.
pub(crate) const OP: usize = schema::OP;

/// The message that a field of another holds.
pub(crate) fn message_of(message: usize, number: u32) -> Option<usize> {
    let fields = schema::MESSAGES.get(message)?.fields;
    match fields.iter().find(|field| field.number == number)?.kind {
        Kind::Message(inner) => Some(inner),
        _ => None,
    }
}

/// Name of a message of the table, for errors.
pub(crate) fn name(message: usize) -> &'static str {
    schema::MESSAGES.get(message).map_or("", |message| message.name)
}

/// The message with a protobuf name.
#[cfg(test)]
pub(crate) fn index_of(name: &str) -> Option<usize> {
    schema::MESSAGES.iter().position(|message| message.name == name)
}

/// The fields of a message of the table.
#[cfg(test)]
pub(crate) fn fields(message: usize) -> &'static [Field] {
    schema::MESSAGES[message].fields
}

/// The canonical encoding of an encoded message of the table.
pub(crate) fn canonical(message: usize, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(bytes.len());
    write_message(message, bytes, 0, &mut out)?;
    Ok(out)
}

/// A known field as it occurred: index in the table, position among all, value.
type Occurrence<'a> = (usize, usize, Value<'a>);

fn write_message(message: usize, bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some(Message { name, fields }) = schema::MESSAGES.get(message) else {
        return Err(Error::Malformed { message: "", reason: "the message is not known" });
    };
    if depth > MAX_DEPTH {
        return Err(Error::Malformed { message: name, reason: "messages nest too deep" });
    }

    let mut known: Vec<Occurrence<'_>> = Vec::new();
    let mut unknown = Vec::new();
    // Of each group: the field that occurred last, and since when without another in between.
    let mut groups: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut reader = Reader::new(bytes, name);
    while let Some(raw) = reader.field()? {
        let Ok(field) = fields.binary_search_by_key(&raw.number, |field| field.number) else {
            unknown.extend_from_slice(raw.raw);
            continue;
        };
        let position = known.len();
        if let Rule::Oneof(group) = fields[field].rule {
            let last = groups.entry(group).or_insert((field, position));
            if last.0 != field {
                *last = (field, position);
            }
        }
        known.push((field, position, raw.value));
    }
    known.retain(|(field, position, _)| match fields[*field].rule {
        Rule::Oneof(group) => groups.get(&group).is_some_and(|(_, since)| position >= since),
        _ => true,
    });
    known.sort_by_key(|(field, ..)| match fields[*field].rule {
        Rule::Oneof(group) => (group + 1, *field),
        _ => (0, *field),
    });

    for run in known.chunk_by(|a, b| a.0 == b.0) {
        write_field(name, &fields[run[0].0], run, depth, out)?;
    }
    out.extend_from_slice(&unknown);
    Ok(())
}

/// Writes all occurrences of one field.
fn write_field(
    message: &'static str,
    field: &Field,
    run: &[Occurrence<'_>],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mismatch = || Error::Malformed { message, reason: "a field has the wire type of another kind" };
    match (field.rule, field.kind) {
        (Rule::Map, Kind::Message(entry)) => {
            let mut entries = BTreeMap::new();
            for (.., value) in run {
                let Value::Bytes(bytes) = *value else {
                    return Err(mismatch());
                };
                let (key, rest) = map_entry(entry, bytes, depth + 1)?;
                entries.insert(key, rest);
            }
            for (key, value) in entries {
                let mut encoded = Vec::with_capacity(key.len() + value.len() + 8);
                put_bytes(&mut encoded, 1, key);
                encoded.extend_from_slice(&value);
                put_bytes(out, field.number, &encoded);
            }
        }
        (Rule::Packed, kind) => {
            let mut packed = Vec::new();
            for (.., value) in run {
                match *value {
                    Value::Varint(value) => put_varint(&mut packed, narrow(kind, value)),
                    Value::Bytes(bytes) => {
                        let mut numbers = Reader::new(bytes, message);
                        while !numbers.is_empty() {
                            put_varint(&mut packed, narrow(kind, numbers.varint()?));
                        }
                    }
                    Value::Other => return Err(mismatch()),
                }
            }
            if !packed.is_empty() {
                put_bytes(out, field.number, &packed);
            }
        }
        (Rule::Singular | Rule::Oneof(_), Kind::Message(inner)) if run.len() > 1 => {
            // Decoding one after the other merges them, as if they were one.
            let mut merged = Vec::new();
            for (.., value) in run {
                let Value::Bytes(bytes) = *value else {
                    return Err(mismatch());
                };
                merged.extend_from_slice(bytes);
            }
            let mut encoded = Vec::new();
            write_message(inner, &merged, depth + 1, &mut encoded)?;
            put_bytes(out, field.number, &encoded);
        }
        (rule, kind) => {
            let always = rule != Rule::Singular;
            let last_only = matches!(rule, Rule::Singular | Rule::Oneof(_));
            let skip = if last_only { run.len().saturating_sub(1) } else { 0 };
            // The ones before count for nothing, but must be readable.
            for (.., value) in &run[..skip] {
                write_value(message, field.number, kind, *value, always, depth, &mut Vec::new())?;
            }
            for (.., value) in &run[skip..] {
                write_value(message, field.number, kind, *value, always, depth, out)?;
            }
        }
    }
    Ok(())
}

/// Writes one value; a default only when it is `always` written.
fn write_value(
    message: &'static str,
    number: u32,
    kind: Kind,
    value: Value<'_>,
    always: bool,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    match (kind, value) {
        (Kind::Message(inner), Value::Bytes(bytes)) => {
            let mut encoded = Vec::with_capacity(bytes.len());
            write_message(inner, bytes, depth + 1, &mut encoded)?;
            put_bytes(out, number, &encoded);
        }
        (Kind::String | Kind::Bytes, Value::Bytes(bytes)) => {
            if kind == Kind::String && std::str::from_utf8(bytes).is_err() {
                return Err(Error::Malformed { message, reason: "a string is not UTF-8" });
            }
            if always || !bytes.is_empty() {
                put_bytes(out, number, bytes);
            }
        }
        (Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Int64, Value::Varint(value)) => {
            let value = narrow(kind, value);
            if always || value != 0 {
                put_number(out, number, value);
            }
        }
        _ => {
            return Err(Error::Malformed { message, reason: "a field has the wire type of another kind" });
        }
    }
    Ok(())
}

/// The varint that a number is encoded as, of one that decodes to it.
fn narrow(kind: Kind, value: u64) -> u64 {
    match kind {
        Kind::Bool => u64::from(value != 0),
        // Negative ones take ten bytes.
        Kind::Int32 => i64::from(value as i32) as u64,
        Kind::Uint32 => u64::from(value as u32),
        _ => value,
    }
}

/// Key and encoded value field of a map's entry; what is unknown in it has nowhere to stay.
fn map_entry(entry: usize, bytes: &[u8], depth: usize) -> Result<(&[u8], Vec<u8>), Error> {
    let name = name(entry);
    let malformed = |reason| Error::Malformed { message: name, reason };
    let kind = schema::MESSAGES
        .get(entry)
        .and_then(|message| message.fields.iter().find(|field| field.number == 2))
        .map(|field| field.kind)
        .ok_or_else(|| malformed("the entry is not known"))?;
    if depth > MAX_DEPTH {
        return Err(malformed("messages nest too deep"));
    }

    let mut key: &[u8] = &[];
    let mut value = match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => Value::Bytes(&[]),
        _ => Value::Varint(0),
    };
    let mut reader = Reader::new(bytes, name);
    while let Some(field) = reader.field()? {
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => key = bytes,
            (1, _) => return Err(malformed("a field has the wire type of another kind")),
            (2, other) => value = other,
            _ => {}
        }
    }
    if std::str::from_utf8(key).is_err() {
        return Err(malformed("a string is not UTF-8"));
    }
    let mut encoded = Vec::new();
    write_value(name, 2, kind, value, true, depth, &mut encoded)?;
    Ok((key, encoded))
}
