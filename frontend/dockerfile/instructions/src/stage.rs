use std::sync::LazyLock;

use buildkit_frontend_dockerfile_parser::Word;
use regex::Regex;

use crate::error::At;
use crate::finding::FindingKind;
use crate::flags::Takes;
use crate::parse::Report;
use crate::request::{Request, doc_comment};
use crate::{Error, Stage};

static STAGE_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[a-z][a-z0-9._-]*$").ok());

/// `FROM`.
pub(crate) fn stage(request: &Request<'_>, report: &mut Report<'_>) -> Result<Stage, At> {
    casing(request, report);
    let name = stage_name(request.words)?;
    let flags = request.flags(&[("platform", Takes::Text)])?;
    let text = |at: usize| request.words.get(at).map(|word| word.text.clone());
    let origin = request.origin();
    if !name.is_empty() {
        report.description("FROM", std::slice::from_ref(&name));
    }
    Ok(Stage {
        doc_comment: doc_comment(&origin.comments, &name),
        name,
        name_as_written: text(2),
        as_keyword: text(1),
        base_name: text(0).unwrap_or_default(),
        platform: flags.text("platform").to_owned(),
        instructions: Vec::new(),
        origin,
    })
}

fn stage_name(words: &[Word]) -> Result<String, At> {
    match words {
        [_] => Ok(String::new()),
        [_, keyword, written] if keyword.text.eq_ignore_ascii_case("as") => {
            let name = written.text.to_lowercase();
            if STAGE_NAME.as_ref().is_some_and(|pattern| pattern.is_match(&name)) {
                return Ok(name);
            }
            Err(At { error: Error::StageName(written.text.clone()), offset: Some(written.offset) })
        }
        _ => Err(Error::FromArguments.into()),
    }
}

fn casing(request: &Request<'_>, report: &mut Report<'_>) {
    if let [_, _, name] = request.words
        && name.text != name.text.to_lowercase()
    {
        report.found(FindingKind::StageNameCasing { name: name.text.clone() });
    }
    // Of a keyword in mixed case nothing is expected.
    let from = &request.node.keyword;
    if let [_, keyword, _, ..] = request.words {
        let expected = if *from == from.to_lowercase() {
            keyword.text.to_lowercase()
        } else if *from == from.to_uppercase() {
            keyword.text.to_uppercase()
        } else {
            return;
        };
        if keyword.text != expected {
            let as_keyword = keyword.text.clone();
            report.found(FindingKind::FromAsCasing { from: from.clone(), as_keyword });
        }
    }
}
