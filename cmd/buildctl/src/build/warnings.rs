//! What is told of warnings when the progress is over.

use std::fmt::Write as _;

use buildkit_solver_errdefs::excerpt;
use buildkit_solver_pb as pb;
use buildkit_util_progress::{Position, VertexWarning};

/// A list of warnings; with `details` all that is known of each.
pub(super) fn summary(warnings: &[VertexWarning], details: bool) -> String {
    let mut out = String::new();
    if warnings.is_empty() {
        return out;
    }
    let plural = if warnings.len() == 1 { "" } else { "s" };
    let hint = if details { "" } else { " (use buildctl --debug build to expand)" };
    let _ = writeln!(out, "\n {} warning{plural} found{hint}:", warnings.len());
    for warning in warnings {
        let _ = writeln!(out, " - {}", String::from_utf8_lossy(&warning.short));
        if !details {
            continue;
        }
        for line in &warning.detail {
            let _ = writeln!(out, "{}", String::from_utf8_lossy(line));
        }
        if !warning.url.is_empty() {
            let _ = writeln!(out, "More info: {}", warning.url);
        }
        out.push_str(&place(warning).unwrap_or_default());
        out.push('\n');
    }
    out
}

fn place(warning: &VertexWarning) -> Option<String> {
    let info = warning.source_info.as_ref()?;
    let info = pb::SourceInfo {
        filename: info.filename.clone(),
        data: info.data.clone(),
        ..pb::SourceInfo::default()
    };
    let position = |at: &Position| Some(pb::Position { line: at.line, character: at.character });
    let ranges = warning.ranges.iter();
    let ranges = ranges.map(|range| pb::Range { start: position(&range.start), end: position(&range.end) });
    Some(String::from_utf8_lossy(&excerpt(&info, &ranges.collect::<Vec<_>>())).into_owned())
}

#[cfg(test)]
mod tests {
    use buildkit_util_cachedigest::Digest;
    use buildkit_util_progress::{Range, SourceInfo};

    use super::*;

    #[test]
    fn warnings_are_listed_at_the_end() {
        let at = Position { line: 1, character: 0 };
        let warning = VertexWarning {
            vertex: Digest::sha256(b""),
            level: 1,
            short: "Casing: do not shout (line 1)".into(),
            detail: vec!["Others do not.".into()],
            url: "https://example.org/casing".to_owned(),
            source_info: Some(SourceInfo {
                filename: "Dockerfile".to_owned(),
                data: "FROM scratch AS A".into(),
                language: String::new(),
            }),
            ranges: vec![Range { start: at, end: at }],
        };
        let one = std::slice::from_ref(&warning);
        assert_eq!(
            summary(one, false),
            "\n 1 warning found (use buildctl --debug build to expand):\n - Casing: do not shout (line 1)\n"
        );
        let excerpt =
            format!("Dockerfile:1\n{line}\n   1 | >>> FROM scratch AS A\n{line}\n", line = "-".repeat(20));
        let full = format!(
            "\n 1 warning found:\n - Casing: do not shout (line 1)\nOthers do not.\nMore info: \
             https://example.org/casing\n{excerpt}\n"
        );
        assert_eq!(summary(one, true), full);
        assert!(summary(&[warning.clone(), warning], false).contains(" 2 warnings found ("));
        assert_eq!(summary(&[], true), "");
    }
}
