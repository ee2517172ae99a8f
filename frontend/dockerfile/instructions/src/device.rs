use buildkit_util_gotext::parse_bool;

use crate::fields::csv;
use crate::{Device, Error};

impl Device {
    /// Reads the value of a `--device`.
    ///
    /// # Errors
    /// It is no list of fields, or a field is not known.
    pub fn parse(value: &str) -> Result<Self, Error> {
        let mut device = Self::default();
        for field in csv(value, "devices")? {
            device.set(field)?;
        }
        Ok(device)
    }

    fn set(&mut self, field: String) -> Result<(), Error> {
        let (key, value) = field.split_once('=').map_or((&*field, None), |(key, value)| (key, Some(value)));
        match (key.to_lowercase().as_str(), value) {
            ("required", None) => self.required = true,
            ("name", Some(_)) if !self.name.is_empty() => return Err(Error::DeviceName(self.name.clone())),
            ("name", Some(value)) => value.clone_into(&mut self.name),
            (key @ "required", Some(value)) => {
                self.required = parse_bool(value)
                    .ok_or_else(|| Error::FieldValue { key: key.to_owned(), value: value.to_owned() })?;
            }
            _ if self.name.is_empty() => self.name = field,
            (_, None) => return Err(Error::FieldWithoutValue(field)),
            (key, Some(_)) => {
                let error = Error::UnexpectedKey { key: key.to_owned(), field: field.clone() };
                return Err(error.suggesting(key, &["name", "required"], true));
            }
        }
        Ok(())
    }
}
