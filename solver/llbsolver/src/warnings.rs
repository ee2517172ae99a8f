//! Warnings of frontends, as many as a build may tell.

use buildkit_errdefs::Kind;
use buildkit_util_grpcerrors::RemoteError;
use buildkit_util_progress::VertexWarning;
use bytes::Bytes;

/// Most bytes of one build's warnings, which are kept as long as its progress.
const LIMIT: usize = 32 << 20;
/// What a warning takes besides its texts.
const OVERHEAD: usize = 512;

/// What a build has told.
#[derive(Debug)]
pub(crate) struct Warnings {
    left: usize,
    /// The content of the file that the last one is about. Most are about the same one, which is kept once.
    file: Bytes,
}

impl Default for Warnings {
    fn default() -> Self {
        Self { left: LIMIT, file: Bytes::new() }
    }
}

impl Warnings {
    /// Counts a warning.
    pub(crate) fn add(&mut self, warning: &mut VertexWarning) -> Result<(), RemoteError> {
        let mut size = OVERHEAD + warning.short.len() + warning.url.len();
        size += warning.detail.iter().map(|line| OVERHEAD + line.len()).sum::<usize>();
        size += warning.ranges.len() * size_of::<buildkit_util_progress::Range>();
        let info = warning.source_info.as_mut();
        let file = info.as_ref().map(|info| &info.data).filter(|data| **data != self.file).cloned();
        size += file.as_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(size).ok_or_else(|| {
            let text = format!("Build has more than {} MiB of warnings", LIMIT >> 20);
            RemoteError::new(Kind::ResourceExhausted, text)
        })?;
        match (file, info) {
            (Some(file), _) => self.file = file,
            (None, Some(info)) => info.data = self.file.clone(),
            (None, None) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use buildkit_util_cachedigest::Digest;
    use buildkit_util_progress::SourceInfo;

    use super::*;

    fn warning(short: usize, file: Vec<u8>) -> VertexWarning {
        VertexWarning {
            vertex: Digest::sha256(b"v"),
            level: 1,
            short: vec![b'w'; short].into(),
            detail: Vec::new(),
            url: String::new(),
            source_info: Some(SourceInfo {
                filename: "Dockerfile".to_owned(),
                data: file.into(),
                language: String::new(),
            }),
            ranges: Vec::new(),
        }
    }

    /// How many of the same warning are taken, of a thousand.
    fn taken(warning: impl Fn(usize) -> VertexWarning) -> usize {
        let mut told = Warnings::default();
        (0..1000).take_while(|number| told.add(&mut warning(*number)).is_ok()).count()
    }

    #[test]
    fn a4_04_warnings_of_a_build_are_bounded() {
        assert_eq!(taken(|_| warning(100, vec![7; 1 << 20])), 1000, "of one file");
        assert!(taken(|number| warning(100, vec![u8::try_from(number % 2).expect("a bit"); 1 << 20])) < 32);
        assert!(taken(|_| warning(1 << 20, Vec::new())) < 32);
        let lines = |_| VertexWarning { detail: vec![Bytes::new(); 1 << 10], ..warning(0, Vec::new()) };
        assert!(taken(lines) < 100);
    }

    #[test]
    fn a_file_is_kept_once() {
        let mut told = Warnings::default();
        let mut warnings = [warning(1, vec![7; 100]), warning(1, vec![7; 100])];
        let [first, second] = warnings.each_mut().map(|warning| {
            told.add(warning).expect("there is room");
            warning.source_info.as_ref().expect("a file").data.as_ptr()
        });
        assert_eq!(first, second);
    }
}
