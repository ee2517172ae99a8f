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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_lines() {
        let json = br#"{"action":1,"denyMessages":[{"message":"no"},{"message":""}]}"#;
        assert_eq!(denials(json), "policy deny: no\n");
    }
}
