//! Layers of Windows: files are below `Files`, beside `Hives`, and have Windows' attributes in PAX records.

use crate::header::{Format, Header, Time, kind};

const FILES: &[u8] = b"Files/";
const ATTRIBUTES: &[u8] = b"MSWINDOWS.fileattr";
const CREATED: &[u8] = b"LIBARCHIVE.creationtime";
const SECURITY: &[u8] = b"MSWINDOWS.rawsd";

/// Security descriptors, self-relative and in base64, that give administrators and the system all rights and
/// users those to read: what the original writes. Directories hand theirs on.
const DIRECTORY_SECURITY: &[u8] = b"AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgCoAAcAAAAAAxgA/wEfAAECAAAAAAAFIAAAACACAAAAAxQA/wEfAAEBAAAAAAAFEgAAAAAAGAD/AR8AAQIAAAAAAAUgAAAAIAIAAAALFAAAAAAQAQEAAAAAAAMAAAAAAAMYAKkAEgABAgAAAAAABSAAAAAhAgAAAAIYAAQAAAABAgAAAAAABSAAAAAhAgAAAAIYAAIAAAABAgAAAAAABSAAAAAhAgAA";
const FILE_SECURITY: &[u8] = b"AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgBMAAMAAAAAABgA/wEfAAECAAAAAAAFIAAAACACAAAAABQA/wEfAAEBAAAAAAAFEgAAAAAAGACpABIAAQIAAAAAAAUgAAAAIQIAAA==";

/// The directories that a layer begins with. The original gives them the time of the build; a layer does not
/// depend on that here.
pub(crate) fn first_entries() -> [Header; 2] {
    [b"Hives", b"Files"].map(|name| {
        let mut header = Header {
            kind: kind::DIRECTORY,
            name: name.to_vec(),
            mtime: Some(Time::default()),
            ..Header::default()
        };
        add_attributes(&mut header);
        header
    })
}

/// Puts an entry where Windows looks for it.
pub(crate) fn wrap(header: &mut Header) {
    header.name = [FILES, &header.name].concat();
    if !header.link.is_empty() {
        header.link = [FILES, &header.link].concat();
    }
    add_attributes(header);
    let security = match header.kind {
        kind::DIRECTORY => DIRECTORY_SECURITY,
        kind::REGULAR => FILE_SECURITY,
        _ => return,
    };
    header.records.insert(SECURITY.to_vec(), security.to_vec());
}

fn add_attributes(header: &mut Header) {
    let (mode, attributes): (i64, &[u8]) = match header.kind {
        kind::DIRECTORY => (1 << 14, b"16"),
        kind::REGULAR => (1 << 15, b"32"),
        _ => (0, b""),
    };
    header.mode |= mode;
    if !attributes.is_empty() {
        header.records.insert(ATTRIBUTES.to_vec(), attributes.to_vec());
    }
    if let Some(time) = header.mtime {
        let created = format!("{}.{}", time.seconds, time.nanoseconds);
        header.records.insert(CREATED.to_vec(), created.into_bytes());
    }
    (header.atime, header.ctime) = (None, None);
    header.format = Format::PAX;
}

/// Takes an entry from where Windows looks for it; false if it is none of the files.
pub(crate) fn unwrap(header: &mut Header) -> bool {
    let Some(name) = header.name.strip_prefix(FILES) else { return false };
    header.name = name.to_vec();
    if let Some(link) = header.link.strip_prefix(FILES) {
        header.link = link.to_vec();
    }
    true
}
