//! Source lines that an error is about.

use buildkit_solver_errdefs::{ParsedDetail, excerpt, parse};
use buildkit_sourcepolicy_policysession::denials;

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
    for reason in remote.map(denials).unwrap_or_default() {
        out.push_str(&format!("policy deny: {reason}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit_errdefs::Kind;
    use buildkit_session_pb::policysession::DenyMessage;
    use buildkit_sourcepolicy_policysession::denial;
    use buildkit_util_grpcerrors::RemoteError;

    #[test]
    fn denials_are_lines() {
        let messages = ["no", "", "never"].map(|message| DenyMessage { message: message.to_owned() });
        let mut error = RemoteError::new(Kind::PermissionDenied, "denied");
        error.details.extend(denial(&messages));
        let error = anyhow::Error::from(buildkit_client::Error::Solve(error)).context("building");
        assert_eq!(of(&error), "policy deny: no\npolicy deny: never\n");
    }
}
