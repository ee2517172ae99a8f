use buildkit_util_gotext::parse_bool;

use crate::expand::Expander;
use crate::fields::{csv, parse_size};
use crate::{Error, Mount, MountType, ShareMode};

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Mount {
    /// Reads the value of a `--mount`. Without `expander` only `from` is read: the rest may hold variables.
    ///
    /// # Errors
    /// It is no list of fields, a field is not known or does not go with the type, or a variable cannot be
    /// expanded.
    pub fn parse<E: From<Error>>(value: &str, mut expander: Option<&mut Expander<'_, E>>) -> Result<Self, E> {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in csv(value, "mounts")? {
            let (key, value) =
                field.split_once('=').map_or((&*field, None), |(key, value)| (key, Some(value)));
            let key = key.to_lowercase();
            match (&mut expander, value) {
                (Some(expander), Some(value)) => {
                    let value = expander(value)?;
                    mount.set(&key, value, &field, &mut read_only)?;
                }
                (Some(_), None) => mount.set_alone(&key, &field, &mut read_only)?,
                (None, Some(value)) if key == "from" => {
                    // A dollar sign at the end is one.
                    if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                        return Err(Error::NotExpanded(key).into());
                    }
                    value.clone_into(&mut mount.from);
                }
                (None, _) => {}
            }
        }
        let writable = matches!(mount.kind, MountType::Cache | MountType::Tmpfs);
        mount.read_only = read_only.unwrap_or(!writable);
        mount.check()?;
        Ok(mount)
    }

    /// A field without a value.
    fn set_alone(&mut self, key: &str, field: &str, read_only: &mut Option<bool>) -> Result<(), Error> {
        match key {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.only(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = true;
            }
            // A secret's variable may have its usual name, but that is written `env=`.
            _ => return Err(Error::FieldWithoutValue(field.to_owned())),
        }
        Ok(())
    }

    fn set(
        &mut self,
        key: &str,
        value: String,
        field: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), Error> {
        let wrong = |value: &str| Error::FieldValue { key: key.to_owned(), value: value.to_owned() };
        match key {
            "type" => self.kind = mount_type(&value)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *read_only = Some(parse_bool(&value).ok_or_else(|| wrong(&value))?),
            "readwrite" | "rw" => *read_only = Some(!parse_bool(&value).ok_or_else(|| wrong(&value))?),
            "required" => {
                self.only(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = parse_bool(&value).ok_or_else(|| wrong(&value))?;
            }
            "size" => {
                self.only(key, &[MountType::Tmpfs])?;
                self.size_limit = parse_size(&value).ok_or_else(|| wrong(&value))?;
            }
            "id" => self.cache_id = value,
            "sharing" => self.cache_sharing = Some(share_mode(&value)?),
            "mode" => self.mode = Some(number("mode", value, 8)?),
            "uid" => self.uid = Some(number("uid", value, 10)?),
            "gid" => self.gid = Some(number("gid", value, 10)?),
            "env" => self.env = Some(value),
            _ => {
                let error = Error::UnexpectedKey { key: key.to_owned(), field: field.to_owned() };
                return Err(error.suggesting(key, &KEYS, true));
            }
        }
        Ok(())
    }

    /// Refuses `key` unless the type, as far as it is known, is one of `kinds`.
    fn only(&self, key: &str, kinds: &[MountType]) -> Result<(), Error> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(Error::KeyOfOtherMount { key: key.to_owned(), kind: self.kind.as_str() })
    }

    /// Whether the fields go with each other.
    fn check(&self) -> Result<(), Error> {
        let kind = self.kind.as_str();
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if value.is_some() {
                    return Err(Error::FileInfo { key, kind });
                }
            }
        }
        if self.kind == MountType::Secret {
            let wrong = if !self.from.is_empty() {
                Some("secret mount should not have a from")
            } else if self.cache_sharing.is_some() {
                Some("secret mount should not define sharing")
            } else if self.source.is_empty() && self.target.is_empty() && self.cache_id.is_empty() {
                Some("invalid secret mount. one of source, target required")
            } else if !self.source.is_empty() && !self.cache_id.is_empty() {
                Some("both source and id can't be set")
            } else {
                None
            };
            wrong.map_or(Ok(()), |text| Err(Error::Secret(text)))?;
        }
        if self.cache_sharing.is_some() && self.kind != MountType::Cache {
            return Err(Error::SharingWithoutCache(kind));
        }
        Ok(())
    }
}

fn mount_type(value: &str) -> Result<MountType, Error> {
    use MountType::{Bind, Cache, Secret, Ssh, Tmpfs};
    let known = [Bind, Cache, Tmpfs, Secret, Ssh];
    known.into_iter().find(|kind| value.to_lowercase() == kind.as_str()).ok_or_else(|| {
        Error::MountType(value.to_owned()).suggesting(value, &known.map(MountType::as_str), true)
    })
}

fn share_mode(value: &str) -> Result<ShareMode, Error> {
    let known = [ShareMode::Shared, ShareMode::Private, ShareMode::Locked];
    known.into_iter().find(|mode| value.to_lowercase() == mode.as_str()).ok_or_else(|| {
        Error::ShareMode(value.to_owned()).suggesting(value, &known.map(ShareMode::as_str), true)
    })
}

fn number(key: &'static str, value: String, radix: u32) -> Result<u32, Error> {
    match u32::from_str_radix(&value, radix) {
        Ok(number) if !value.starts_with('+') => Ok(number),
        _ => Err(Error::MountNumber { key, value }),
    }
}
