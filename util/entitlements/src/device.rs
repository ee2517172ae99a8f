use std::collections::BTreeMap;

use crate::Error;

/// Devices that a build may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceGrant {
    /// Whether it may use all of them.
    pub all: bool,
    /// Names that builds use, with the device that each stands for; empty is the device of that name.
    pub devices: BTreeMap<String, String>,
}

impl DeviceGrant {
    /// Reads `name[,alias=other]` in CSV; nothing is all devices.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self { all: true, ..Self::default() });
        }
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut records = reader.records();
        let record = match (records.next(), records.next()) {
            (Some(Ok(record)), None) => record,
            _ => return Err(Error::Device(format!("invalid device config {text:?}"))),
        };
        let mut fields = record.iter();
        let name = fields.next().unwrap_or_default().to_owned();
        let mut alias = None;
        for field in fields {
            match field.split_once('=') {
                Some(("alias", value)) => alias = Some(value.to_owned()),
                Some((key, _)) => return Err(Error::Device(format!("unknown device config key {key:?}"))),
                None => return Err(Error::Device(format!("invalid device config {field:?}"))),
            }
        }
        let entry = match alias.filter(|alias| !alias.is_empty()) {
            Some(alias) => (alias, name),
            None => (name, String::new()),
        };
        Ok(Self { all: false, devices: BTreeMap::from([entry]) })
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.devices.extend(other.devices);
    }
}
