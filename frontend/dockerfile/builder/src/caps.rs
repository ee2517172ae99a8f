use buildkit_errdefs::Kind;
use buildkit_solver_errdefs::frontend_cap;
use buildkit_util_grpcerrors::RemoteError;

/// What a user may require of a frontend for Dockerfiles, without the prefix.
const SUPPORTED: [&str; 4] = ["inputs", "subrequests", "contexts", "gitquerystring"];
const PREFIX: &str = "moby.buildkit.frontend.";
/// Behind the name of a capability that a frontend which the file names may have instead.
const FORWARD: &str = "+forward";

/// Checks the capabilities, with commas between them, that a user requires. If the first that is missing may be one of
/// another frontend's, the error is the inner one, to be returned unless the file names one.
pub(crate) fn require(required: &str) -> Result<Result<(), RemoteError>, RemoteError> {
    let mut outcome = Ok(());
    for cap in required.split(',').filter(|cap| !cap.is_empty()) {
        let name = cap.split('+').next().unwrap_or(cap);
        if name.strip_prefix(PREFIX).is_some_and(|name| SUPPORTED.contains(&name)) {
            continue;
        }
        let text = format!("unsupported frontend capability {name}");
        let error = RemoteError::new(Kind::Unimplemented, text).with(frontend_cap(name));
        if !cap.contains(FORWARD) {
            return Err(error);
        }
        outcome = Err(error);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_checked() {
        assert!(require("").is_ok_and(|outcome| outcome.is_ok()));
        assert!(
            require("moby.buildkit.frontend.inputs,moby.buildkit.frontend.contexts").is_ok_and(|o| o.is_ok())
        );
        assert!(require("moby.buildkit.frontend.nope+forward").is_ok_and(|outcome| outcome.is_err()));
        let error = require("moby.buildkit.frontend.nope+forward,other").unwrap_err();
        assert_eq!(error.message, "unsupported frontend capability other");
    }
}
