use buildkit_session_pb::policysession::DenyMessage;
use buildkit_sourcepolicy_pb::PolicyAction;
use buildkit_util_gojson::Object;
use buildkit_util_grpcerrors::{Detail, RemoteError};
use serde_json::Value;

/// Upstream's name for the type of the detail.
const NAME: &str = "policysession.DecisionResponse";

/// The detail of an error that says why a source is denied; `None` if nothing was said.
pub fn denial(messages: &[DenyMessage]) -> Option<Detail> {
    if messages.is_empty() {
        return None;
    }
    let mut json = String::new();
    Object::new(&mut json).field("action", PolicyAction::Deny.as_str_name()).array("denyMessages", |list| {
        for message in messages {
            list.object(|json| {
                json.omit_empty("message", message.message.as_str());
            });
        }
    });
    Some(Detail::json(NAME, json))
}

/// What was said of why sources are denied, of an error of a build. Empty messages are left out.
pub fn denials(error: &RemoteError) -> Vec<String> {
    let mut texts = Vec::new();
    for detail in error.details.iter().filter(|detail| detail.json_name() == Some(NAME)) {
        let json: Value = serde_json::from_slice(&detail.value).unwrap_or_default();
        // The second is protobuf's own name, which other writers of JSON use.
        let messages = ["denyMessages", "deny_messages"].iter().find_map(|key| json.get(key)?.as_array());
        let messages = messages.into_iter().flatten().filter_map(|message| message.get("message")?.as_str());
        texts.extend(messages.filter(|message| !message.is_empty()).map(str::to_owned));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit_errdefs::Kind;

    #[test]
    fn denials_travel_with_errors() {
        let message = |text: &str| DenyMessage { message: text.to_owned() };
        let detail = denial(&[message("use <b>"), message(""), message("not a")]).expect("messages");
        assert_eq!(
            std::str::from_utf8(&detail.value),
            Ok(concat!(
                r#"{"action":"DENY","denyMessages":[{"message":"use \u003cb\u003e"},"#,
                r#"{},{"message":"not a"}]}"#
            ))
        );
        let error = RemoteError::new(Kind::PermissionDenied, "no").with(detail);
        assert_eq!(denials(&error), ["use <b>", "not a"]);
        assert_eq!(denial(&[]), None);
        let damaged = RemoteError::new(Kind::Unknown, "no").with(Detail::json(NAME, "{"));
        assert!(denials(&damaged).is_empty());
    }
}
