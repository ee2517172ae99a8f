use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::string::{write_bytes, write_string};
use crate::{Array, Object};

/// Something that has a form in Go's JSON.
pub trait Value {
    /// Appends the JSON form.
    fn write_json(&self, out: &mut String);

    /// Whether a Go field of this value with the option `omitempty` is left out.
    fn is_empty_value(&self) -> bool {
        false
    }
}

/// The JSON form of one value.
pub fn to_string<V: Value + ?Sized>(value: &V) -> String {
    let mut out = String::new();
    value.write_json(&mut out);
    out
}

/// A `[]byte`: padded standard base64. (A nil slice is `null`: use `Option`.)
#[derive(Clone, Copy, Debug)]
pub struct Base64<'a>(pub &'a [u8]);

/// A Go string that need not be UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct GoString<'a>(pub &'a [u8]);

/// JSON that is written as it is.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a>(pub &'a str);

impl Value for Base64<'_> {
    fn write_json(&self, out: &mut String) {
        out.push('"');
        STANDARD.encode_string(self.0, out);
        out.push('"');
    }

    fn is_empty_value(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value for GoString<'_> {
    fn write_json(&self, out: &mut String) {
        write_bytes(out, self.0);
    }

    fn is_empty_value(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value for Raw<'_> {
    fn write_json(&self, out: &mut String) {
        out.push_str(self.0);
    }
}

impl Value for str {
    fn write_json(&self, out: &mut String) {
        write_string(out, self);
    }

    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

impl Value for String {
    fn write_json(&self, out: &mut String) {
        write_string(out, self);
    }

    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

impl Value for bool {
    fn write_json(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }

    fn is_empty_value(&self) -> bool {
        !self
    }
}

macro_rules! forwards {
    ($(<$($lifetime:lifetime,)? $param:ident> $type:ty),*) => {$(
        impl<$($lifetime,)? $param: Value + ?Sized> Value for $type {
            fn write_json(&self, out: &mut String) {
                (**self).write_json(out);
            }

            fn is_empty_value(&self) -> bool {
                (**self).is_empty_value()
            }
        }
    )*};
}
forwards!(<'a, V> &'a V, <V> Box<V>, <V> Arc<V>);

impl Value for Cow<'_, str> {
    fn write_json(&self, out: &mut String) {
        write_string(out, self);
    }

    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

/// A pointer: `None` is `null` and empty, anything behind a pointer is not empty.
impl<V: Value> Value for Option<V> {
    fn write_json(&self, out: &mut String) {
        match self {
            Some(value) => value.write_json(out),
            None => out.push_str("null"),
        }
    }

    fn is_empty_value(&self) -> bool {
        self.is_none()
    }
}

/// A slice that is not nil. (A nil slice is `null`: use `Option`.)
impl<V: Value> Value for [V] {
    fn write_json(&self, out: &mut String) {
        let mut array = Array::new(out);
        for item in self {
            array.item(item);
        }
    }

    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

impl<V: Value> Value for Vec<V> {
    fn write_json(&self, out: &mut String) {
        self.as_slice().write_json(out);
    }

    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

/// A map that is not nil; Go sorts the keys by their bytes.
impl<V: Value> Value for BTreeMap<String, V> {
    fn write_json(&self, out: &mut String) {
        let mut object = Object::new(out);
        for (key, value) in self {
            object.field(key, value);
        }
    }

    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded_base64() {
        assert_eq!(to_string(&Base64(b"")), r#""""#);
        assert_eq!(to_string(&Base64(&[0xfb, 0xff])), r#""+/8=""#);
        assert_eq!(to_string(&None::<Base64<'_>>), "null");
        assert_eq!(to_string(&vec![Base64(b"a"), Base64(b"abc")]), r#"["YQ==","YWJj"]"#);
    }

    #[test]
    fn map_keys_are_sorted_and_escaped() {
        let map: BTreeMap<String, i64> =
            [("b".to_owned(), 1), ("a<".to_owned(), 2), ("Z".to_owned(), 3), ("ä".to_owned(), 4)].into();
        assert_eq!(to_string(&map), "{\"Z\":3,\"a\\u003c\":2,\"b\":1,\"ä\":4}");
        assert_eq!(to_string(&BTreeMap::<String, i64>::new()), "{}");
    }

    #[test]
    fn emptiness_is_that_of_omitempty() {
        assert!("".is_empty_value() && false.is_empty_value() && Vec::<i64>::new().is_empty_value());
        assert!(None::<i64>.is_empty_value());
        assert!(!Some(0i64).is_empty_value() && !Raw("{}").is_empty_value());
    }
}
