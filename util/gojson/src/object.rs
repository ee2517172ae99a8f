use crate::Value;
use crate::string::write_string;

/// Writes an object; dropping it writes the closing brace.
pub struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    fn name(&mut self, name: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        write_string(self.out, name);
        self.out.push(':');
        self.out
    }

    /// A field that is always written.
    pub fn field<V: Value + ?Sized>(&mut self, name: &str, value: &V) -> &mut Self {
        value.write_json(self.name(name));
        self
    }

    /// A field with Go's option `omitempty`.
    pub fn omit_empty<V: Value + ?Sized>(&mut self, name: &str, value: &V) -> &mut Self {
        if !value.is_empty_value() {
            self.field(name, value);
        }
        self
    }

    /// A field whose value the closure writes, whole.
    pub fn field_with(&mut self, name: &str, write: impl FnOnce(&mut String)) -> &mut Self {
        write(self.name(name));
        self
    }

    /// A field that is an object.
    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        let mut object = Object::new(self.name(name));
        fill(&mut object);
        drop(object);
        self
    }

    /// A field that is an array.
    pub fn array(&mut self, name: &str, fill: impl FnOnce(&mut Array<'_>)) -> &mut Self {
        let mut array = Array::new(self.name(name));
        fill(&mut array);
        drop(array);
        self
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push('}');
    }
}

/// Writes an array; dropping it writes the closing bracket.
pub struct Array<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Array<'a> {
    /// Opens an array.
    pub fn new(out: &'a mut String) -> Self {
        out.push('[');
        Self { out, first: true }
    }

    fn next(&mut self) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out
    }

    /// Adds an item.
    pub fn item<V: Value + ?Sized>(&mut self, value: &V) -> &mut Self {
        value.write_json(self.next());
        self
    }

    /// Adds an item that the closure writes, whole.
    pub fn item_with(&mut self, write: impl FnOnce(&mut String)) -> &mut Self {
        write(self.next());
        self
    }

    /// Adds an item that is an object.
    pub fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        let mut object = Object::new(self.next());
        fill(&mut object);
        drop(object);
        self
    }
}

impl Drop for Array<'_> {
    fn drop(&mut self) {
        self.out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Base64;

    #[test]
    fn objects_and_arrays_nest() {
        let mut out = String::new();
        Object::new(&mut out)
            .field("a", &1i64)
            .omit_empty("b", &0i64)
            .object("c", |o| {
                o.omit_empty("x", "").omit_empty("y", "1");
            })
            .object("e", |_| {})
            .array("d", |a| {
                a.item("i").object(|o| {
                    o.field("z", &Some(Base64(b"\0")));
                });
                a.item_with(|out| out.push_str("null"));
            })
            .field_with("f", |out| out.push_str("[]"));
        assert_eq!(out, r#"{"a":1,"c":{"y":"1"},"e":{},"d":["i",{"z":"AA=="},null],"f":[]}"#);
    }
}
