//! Compares with headers recorded from Go (see `vectors/README.md`).

use std::collections::BTreeMap;

use buildkit_util_tarsum::Header;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    header: Fields,
    #[serde(default)]
    pax_records: BTreeMap<String, String>,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
    output: String,
}

#[derive(Deserialize)]
struct Fields {
    devmajor: i64,
    devminor: i64,
    gid: i64,
    gname: String,
    linkname: String,
    mode: i64,
    name: String,
    size: i64,
    typeflag: String,
    uid: i64,
    uname: String,
}

#[test]
fn headers_are_those_of_go() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("vectors/headers.json")).expect("vectors");
    assert!(!cases.is_empty());
    for case in cases {
        let fields = &case.header;
        let header = Header {
            name: fields.name.as_bytes(),
            mode: fields.mode,
            uid: fields.uid,
            gid: fields.gid,
            size: fields.size,
            typeflag: fields.typeflag.as_bytes()[0],
            linkname: fields.linkname.as_bytes(),
            uname: fields.uname.as_bytes(),
            gname: fields.gname.as_bytes(),
            devmajor: fields.devmajor,
            devminor: fields.devminor,
        };
        let mut out = Vec::new();
        let mut xattrs: Vec<(&[u8], &[u8])> = case
            .pax_records
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix("SCHILY.xattr.")?.as_bytes(), value.as_bytes()))
            })
            .collect();
        if case.pax_records.is_empty() {
            // Attributes in the deprecated form lose their values there; only names count.
            xattrs.extend(case.xattrs.keys().map(|name| (name.as_bytes(), &b""[..])));
        }
        header.write_v1(xattrs, |bytes| out.extend_from_slice(bytes));
        assert_eq!(hex::encode(&out), case.output, "{}", case.name);
    }
}
