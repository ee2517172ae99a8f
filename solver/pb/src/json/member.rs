use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_util_gojson::{Array, Base64, Object, Value, write_string};
use bytes::Bytes;
use serde_json::{Map as Members, Value as Json};

use crate::map::{MapEntry, from_map};

/// Which of the two forms is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// That of Go's `encoding/json`.
    Go,
    /// That of protobuf.
    Protobuf,
}

impl Dialect {
    /// The name of a member, from the field's name in the definition.
    fn name(self, field: &str) -> Cow<'_, str> {
        if self == Self::Go || !field.contains('_') {
            return Cow::Borrowed(field);
        }
        let mut parts = field.split('_');
        let mut name = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let mut chars = part.chars();
            name.extend(chars.next().map(|first| first.to_ascii_uppercase()));
            name.push_str(chars.as_str());
        }
        Cow::Owned(name)
    }
}

pub(super) type Read<T> = Result<T, String>;

/// Something that a field can hold.
pub trait Member: Sized {
    /// Appends the JSON form.
    #[doc(hidden)]
    fn write(&self, out: &mut String, dialect: Dialect);
    /// Whether a field with this value is left out.
    #[doc(hidden)]
    fn is_default(&self) -> bool {
        false
    }
    /// Reads the JSON form.
    #[doc(hidden)]
    fn read(value: &Json) -> Read<Self>;
    /// Reads the value of a field that is missing or `null`.
    #[doc(hidden)]
    fn missing() -> Read<Self> {
        Err("a list has a null".to_owned())
    }
    /// Appends the JSON form of several, which for entries of a map is an object.
    #[doc(hidden)]
    fn write_list(list: &[Self], out: &mut String, dialect: Dialect) {
        let mut array = Array::new(out);
        for item in list {
            array.item_with(|out| item.write(out, dialect));
        }
    }
    /// Reads several.
    #[doc(hidden)]
    fn read_list(value: &Json) -> Read<Vec<Self>> {
        let list = value.as_array().ok_or_else(|| mismatch("a list", value))?;
        list.iter().map(|item| if item.is_null() { Self::missing() } else { Self::read(item) }).collect()
    }
}

fn mismatch(want: &str, got: &Json) -> String {
    let got = match got {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    };
    format!("{want} is wanted where {got} stands")
}

/// The members of an object; `null` has none.
pub(super) fn members(value: &Json) -> Read<&Members<String, Json>> {
    static NONE: std::sync::LazyLock<Members<String, Json>> = std::sync::LazyLock::new(Members::new);
    match value {
        Json::Object(members) => Ok(members),
        Json::Null => Ok(&NONE),
        _ => Err(mismatch("an object", value)),
    }
}

pub(super) fn member<T: Member>(members: &Members<String, Json>, name: &str) -> Read<T> {
    match members.get(name) {
        None | Some(Json::Null) => T::missing(),
        Some(value) => T::read(value).map_err(|reason| format!("`{name}`: {reason}")),
    }
}

/// The object in a member, for the nested objects of oneofs.
pub(super) fn nested<'a>(outer: &'a Members<String, Json>, name: &str) -> Read<&'a Members<String, Json>> {
    members(outer.get(name).unwrap_or(&Json::Null))
}

macro_rules! integers {
    ($($type:ty $(, $as_text:ident)?;)*) => {$(
        impl Member for $type {
            fn write(&self, out: &mut String, dialect: Dialect) {
                integers!(@write self, out, dialect $(, $as_text)?);
            }

            fn is_default(&self) -> bool {
                *self == 0
            }

            fn read(value: &Json) -> Read<Self> {
                let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
                let number = number.ok_or_else(|| mismatch("an integer", value))?;
                Self::try_from(number).map_err(|_| format!("{number} is out of range"))
            }

            fn missing() -> Read<Self> {
                Ok(0)
            }
        }
    )*};
    (@write $number:expr, $out:ident, $dialect:ident) => {{
        let _ = $dialect;
        $number.write_json($out);
    }};
    (@write $number:expr, $out:ident, $dialect:ident, as_text) => {
        match $dialect {
            Dialect::Go => $number.write_json($out),
            Dialect::Protobuf => write_string($out, &$number.to_string()),
        }
    };
}
integers! {
    i32;
    u32;
    i64, as_text;
    u64, as_text;
}

impl Member for bool {
    fn write(&self, out: &mut String, _: Dialect) {
        self.write_json(out);
    }

    fn is_default(&self) -> bool {
        !self
    }

    fn read(value: &Json) -> Read<Self> {
        value.as_bool().ok_or_else(|| mismatch("a boolean", value))
    }

    fn missing() -> Read<Self> {
        Ok(false)
    }
}

impl Member for String {
    fn write(&self, out: &mut String, _: Dialect) {
        write_string(out, self);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn read(value: &Json) -> Read<Self> {
        value.as_str().map(str::to_owned).ok_or_else(|| mismatch("a string", value))
    }

    fn missing() -> Read<Self> {
        Ok(Self::new())
    }
}

impl Member for Bytes {
    fn write(&self, out: &mut String, _: Dialect) {
        Base64(self).write_json(out);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn read(value: &Json) -> Read<Self> {
        let text = value.as_str().ok_or_else(|| mismatch("a string", value))?;
        STANDARD.decode(text).map(Self::from).map_err(|error| error.to_string())
    }

    fn missing() -> Read<Self> {
        Ok(Self::new())
    }
}

impl<T: Member> Member for Option<T> {
    fn write(&self, out: &mut String, dialect: Dialect) {
        match self {
            Some(value) => value.write(out, dialect),
            None => out.push_str("null"),
        }
    }

    fn is_default(&self) -> bool {
        self.is_none()
    }

    fn read(value: &Json) -> Read<Self> {
        T::read(value).map(Some)
    }

    fn missing() -> Read<Self> {
        Ok(None)
    }
}

impl<T: Member> Member for Vec<T> {
    fn write(&self, out: &mut String, dialect: Dialect) {
        T::write_list(self, out, dialect);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn read(value: &Json) -> Read<Self> {
        T::read_list(value)
    }

    fn missing() -> Read<Self> {
        Ok(Self::new())
    }
}

fn write_map<E: MapEntry>(entries: &[E], out: &mut String, dialect: Dialect)
where
    E::Value: Member,
{
    let sorted: BTreeMap<_, _> = entries.iter().map(|entry| (entry.key(), entry.value())).collect();
    let mut object = Object::new(out);
    for (key, value) in sorted {
        match value {
            Some(value) => object.field_with(key, |out| value.write(out, dialect)),
            None => object.field_with(key, |out| E::Value::default().write(out, dialect)),
        };
    }
}

fn read_map<E: MapEntry>(value: &Json) -> Read<Vec<E>>
where
    E::Value: Member,
{
    let members = members(value)?;
    let parts: Read<Vec<_>> = members.keys().map(|key| Ok((key.clone(), member(members, key)?))).collect();
    Ok(from_map(parts?))
}

macro_rules! maps {
    ($($entry:ty),* $(,)?) => {$(
        impl Member for $entry {
            fn write(&self, out: &mut String, dialect: Dialect) {
                write_map(std::slice::from_ref(self), out, dialect);
            }

            fn read(value: &Json) -> Read<Self> {
                let entry = read_map(value)?.into_iter().next();
                entry.ok_or_else(|| "a map has no entry".to_owned())
            }

            fn write_list(list: &[Self], out: &mut String, dialect: Dialect) {
                write_map(list, out, dialect);
            }

            fn read_list(value: &Json) -> Read<Vec<Self>> {
                read_map(value)
            }
        }
    )*};
}
maps!(
    crate::source_op::AttrsEntry,
    crate::build_op::AttrsEntry,
    crate::build_op::InputsEntry,
    crate::definition::MetadataEntry,
    crate::op_metadata::DescriptionEntry,
    crate::op_metadata::CapsEntry,
    crate::source::LocationsEntry,
);

/// The members of one message while they are written.
pub(super) struct Writer<'a> {
    object: Object<'a>,
    dialect: Dialect,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut String, dialect: Dialect) -> Self {
        Self { object: Object::new(out), dialect }
    }

    /// A field, unless it has its default.
    pub(super) fn field<T: Member>(&mut self, name: &str, value: &T) -> &mut Self {
        if value.is_default() { self } else { self.always(name, value) }
    }

    /// A field, whatever it has.
    pub(super) fn always<T: Member>(&mut self, name: &str, value: &T) -> &mut Self {
        let dialect = self.dialect;
        self.object.field_with(&dialect.name(name), |out| value.write(out, dialect));
        self
    }

    /// A field whose number has this name in its enum, if it has one.
    pub(super) fn number(&mut self, name: &str, number: i32, text: Option<&str>) {
        match text.filter(|_| self.dialect == Dialect::Protobuf && number != 0) {
            Some(text) => self.always(name, &text.to_owned()),
            None => self.field(name, &number),
        };
    }

    /// The members of a oneof, which Go has in an object of this name.
    pub(super) fn oneof(&mut self, name: &str, fill: impl FnOnce(&mut Writer<'_>)) {
        match self.dialect {
            Dialect::Go => {
                self.object.field_with(name, |out| fill(&mut Writer::new(out, Dialect::Go)));
            }
            Dialect::Protobuf => fill(self),
        }
    }
}
