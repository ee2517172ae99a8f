//! Source lines that an error is about.

use buildkit_solver_errdefs::{ParsedDetail, excerpt, parse};

/// What is printed before an error: excerpts of the sources that it names, and why a policy denied.
pub(crate) fn of(error: &anyhow::Error) -> String {
    let remote = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<buildkit_client::Error>())
        .and_then(|error| error.remote());
    let mut out = String::new();
    for detail in remote.iter().flat_map(|remote| &remote.details) {
        if let Some(ParsedDetail::Source { info, ranges }) = parse(detail) {
            out.push_str(&String::from_utf8_lossy(&excerpt(&info, &ranges)));
        }
    }
    for detail in remote.iter().flat_map(|remote| &remote.details) {
        if detail.json_name() == Some("policysession.DecisionResponse") {
            out.push_str(&denials(&detail.value));
        }
    }
    out
}

fn denials(json: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let messages = ["denyMessages", "deny_messages"].iter().find_map(|key| json.get(key)?.as_array());
    messages
        .into_iter()
        .flatten()
        .filter_map(|message| message.get("message")?.as_str())
        .filter(|message| !message.is_empty())
        .map(|message| format!("policy deny: {message}\n"))
        .collect()
}

<<<<<<< HEAD
=======
/// The marked lines of a file, with some around them; `None` if it has no such lines.
pub(crate) fn excerpt(info: &SourceInfo, ranges: &[Range]) -> Option<String> {
    let text = String::from_utf8_lossy(&info.data);
    let lines: Vec<&str> = text.split('\n').collect();
    let bounds = |range: &Range| {
        let line = |p: &Option<buildkit_solver_pb::Position>| p.as_ref().map_or(0, |p| p.line);
        let start = line(&range.start);
        (usize::try_from(start).unwrap_or(0), usize::try_from(line(&range.end).max(start)).unwrap_or(0))
    };
    let first = ranges.iter().map(|range| bounds(range).0).min()?;
    let last = ranges.iter().map(|range| bounds(range).1).max()?.min(lines.len());
    if first < 1 || first > lines.len() {
        return None;
    }
    // Lines are added on both sides in turn; a side that has none counts as if it had.
    let (mut start, mut end) = (first, last);
    let context = if start == end { CONTEXT_OF_ONE } else { CONTEXT_OF_MANY };
    let mut added = 0;
    while added < context {
        if start > 1 {
            start -= 1;
            added += 1;
        }
        if end != lines.len() {
            end += 1;
            added += 1;
        }
        added += 1;
    }
    let mut out = format!("{}:{first}\n--------------------\n", info.filename);
    for number in start..=end {
        let is_marked = ranges.iter().map(bounds).any(|(a, b)| a <= number && number <= b);
        let mark = if is_marked { ">>>" } else { "   " };
        let line = lines.get(number - 1).copied().unwrap_or_default();
        let _ = writeln!(out, " {number:3} | {mark} {line}");
    }
    out.push_str("--------------------\n");
    Some(out)
}

>>>>>>> helper-bridge
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_lines() {
        let json = br#"{"action":1,"denyMessages":[{"message":"no"},{"message":""}]}"#;
        assert_eq!(denials(json), "policy deny: no\n");
    }
}
