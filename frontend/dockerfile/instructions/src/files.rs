use std::collections::HashMap;

use buildkit_frontend_dockerfile_parser::{Heredoc, chomp};

use crate::error::At;
use crate::flags::Takes;
use crate::request::Request;
use crate::{Add, Copy, Error, SourceContent, SourcesAndDest};

/// The most bytes that the here-documents of one instruction may have, each counted as often as it is named.
const MAX_CONTENTS: usize = 64 << 20;

const ADD_FLAGS: [(&str, Takes); 7] = [
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Switch),
    ("keep-git-dir", Takes::Switch),
    ("checksum", Takes::Text),
    ("unpack", Takes::Switch),
    ("exclude", Takes::Texts),
];

const COPY_FLAGS: [(&str, Takes); 6] = [
    ("chown", Takes::Text),
    ("from", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Switch),
    ("exclude", Takes::Texts),
    ("parents", Takes::Switch),
];

/// `ADD`.
pub(crate) fn add(request: &Request<'_>) -> Result<Add, At> {
    needs_two(request)?;
    let flags = request.flags(&ADD_FLAGS)?;
    Ok(Add {
        paths: sources_and_dest(request)?,
        chown: flags.text("chown").to_owned(),
        chmod: flags.text("chmod").to_owned(),
        link: flags.switch("link").unwrap_or_default(),
        exclude_patterns: flags.texts("exclude").map(|(text, _)| text.to_owned()).collect(),
        keep_git_dir: flags.switch("keep-git-dir"),
        checksum: flags.text("checksum").to_owned(),
        unpack: flags.switch("unpack"),
        origin: request.origin(),
    })
}

/// `COPY`.
pub(crate) fn copy(request: &Request<'_>) -> Result<Copy, At> {
    needs_two(request)?;
    let flags = request.flags(&COPY_FLAGS)?;
    Ok(Copy {
        paths: sources_and_dest(request)?,
        from: flags.text("from").to_owned(),
        chown: flags.text("chown").to_owned(),
        chmod: flags.text("chmod").to_owned(),
        link: flags.switch("link").unwrap_or_default(),
        exclude_patterns: flags.texts("exclude").map(|(text, _)| text.to_owned()).collect(),
        parents: flags.switch("parents").unwrap_or_default(),
        origin: request.origin(),
    })
}

fn needs_two(request: &Request<'_>) -> Result<(), At> {
    if request.words.len() < 2 { Err(Error::NoDestination(request.keyword).into()) } else { Ok(()) }
}

fn sources_and_dest(request: &Request<'_>) -> Result<SourcesAndDest, At> {
    let (dest, sources) = request.words.split_last().ok_or(Error::NoDestination(request.keyword))?;
    if announced(&dest.text).is_some() {
        return Err(At { error: Error::HeredocDestination(request.keyword), offset: Some(dest.offset) });
    }
    let mut paths = SourcesAndDest { dest_path: dest.text.clone(), ..SourcesAndDest::default() };
    // Of several with one name the last counts.
    let contents: HashMap<&str, &str> =
        request.node.heredocs.iter().map(|given| (&*given.name, &*given.content)).collect();
    let mut size = 0_usize;
    for source in sources {
        let Some(heredoc) = announced(&source.text) else {
            paths.source_paths.push(source.text.clone());
            continue;
        };
        let content = contents.get(&*heredoc.name).copied().unwrap_or_default();
        size = size.saturating_add(content.len());
        if size > MAX_CONTENTS {
            let error = Error::HeredocsTooLarge { keyword: request.keyword, limit: MAX_CONTENTS };
            return Err(At { error, offset: Some(source.offset) });
        }
        let data = if heredoc.chomp { chomp(content) } else { content.to_owned() };
        paths.source_contents.push(SourceContent { path: heredoc.name, data, expand: heredoc.expand });
    }
    Ok(paths)
}

fn announced(word: &str) -> Option<Heredoc> {
    Heredoc::from_word(word).ok().flatten()
}
