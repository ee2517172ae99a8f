use std::io::{self, Read as _, Write};

use buildkit_errdefs::{Classify, Kind};
use buildkit_util_archive::{Error as TarError, Header, Time, Writer, kind};
use buildkit_util_fsutil::types::Stat;
use buildkit_util_fsutil::{Error as TreeError, FileSystem, mode, walk_all};

/// Bytes that are read at a time.
const BUFFER: usize = 128 << 10;

/// Why a tree was not written as an archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file cannot be read, or changed its size meanwhile.
    #[error("failed to read `{path}`: {source}")]
    Read {
        /// Where it is in the tree.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// An entry cannot be expressed, or nobody takes it.
    #[error(transparent)]
    Archive(#[from] TarError),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tree(error) => error.kind(),
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Archive(error) => error.kind(),
        }
    }
}

/// Writes a tree as an archive with the bytes that the original writes: USTAR where that can express an entry, PAX
/// otherwise; directories' names end with a slash, extended attributes are PAX records, times are whole seconds.
pub(crate) fn write_tree(fs: &dyn FileSystem, out: &mut dyn Write) -> Result<(), Error> {
    let mut writer = Writer::new(out);
    let mut buffer = vec![0; BUFFER];
    let mut failed = None;
    let walked = walk_all(fs, |stat| {
        write_entry(fs, &stat, &mut writer, &mut buffer).map_err(|error| {
            failed = Some(error);
            TreeError::Ended
        })
    });
    match failed {
        Some(error) => return Err(error),
        None => walked?,
    }
    writer.finish()?;
    Ok(())
}

fn write_entry(
    fs: &dyn FileSystem,
    stat: &Stat,
    writer: &mut Writer<&mut dyn Write>,
    buffer: &mut [u8],
) -> Result<(), Error> {
    let header = header_of(stat);
    writer.entry(&header)?;
    if header.kind != kind::REGULAR || header.size == 0 {
        return Ok(());
    }
    let failed = |source| Error::Read { path: stat.path.clone(), source };
    let mut file = fs.open(&stat.path)?;
    let mut left = header.size;
    loop {
        let len = file.read(buffer).map_err(failed)?;
        left -= i64::try_from(len).unwrap_or(i64::MAX);
        if left < 0 || (len == 0 && left > 0) {
            return Err(failed(io::Error::other("file changed while it was read")));
        }
        if len == 0 {
            return Ok(());
        }
        writer.content(&buffer[..len])?;
    }
}

fn header_of(stat: &Stat) -> Header {
    let mut name = stat.path.clone().into_bytes();
    let kind = if mode::is_dir(stat.mode) {
        if !name.ends_with(b"/") {
            name.push(b'/');
        }
        kind::DIRECTORY
    } else if mode::is_symlink(stat.mode) {
        kind::SYMLINK
    } else if !stat.linkname.is_empty() {
        kind::LINK
    } else if stat.mode & mode::CHAR_DEVICE != 0 {
        kind::CHAR_DEVICE
    } else if stat.mode & mode::DEVICE != 0 {
        kind::BLOCK_DEVICE
    } else if stat.mode & mode::NAMED_PIPE != 0 {
        kind::FIFO
    } else {
        kind::REGULAR
    };
    let nanoseconds = stat.mod_time.rem_euclid(1_000_000_000);
    let records = stat.xattrs.iter();
    let records = records.map(|(key, value)| (format!("SCHILY.xattr.{key}").into_bytes(), value.to_vec()));
    Header {
        kind,
        name,
        link: stat.linkname.clone().into_bytes(),
        size: if kind == kind::REGULAR { stat.size.max(0) } else { 0 },
        mode: mode::permissions(stat.mode).into(),
        uid: stat.uid.into(),
        gid: stat.gid.into(),
        mtime: Some(Time {
            seconds: stat.mod_time.div_euclid(1_000_000_000),
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        }),
        devmajor: stat.devmajor.max(0),
        devminor: stat.devminor.max(0),
        records: records.collect(),
        ..Header::default()
    }
}
