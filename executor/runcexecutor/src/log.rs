use std::path::Path;

use buildkit_util_system::Root;
use serde::Deserialize;

/// A runtime that writes more is broken, in bytes.
const MAX_LOG: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The runtime's own words for why it failed, in one line, from the JSON log in the directory
/// `bundle`.
pub(crate) fn failure(bundle: &Path, name: &str, status: i32) -> String {
    let log = Root::open(bundle).and_then(|root| root.read_file(name, MAX_LOG)).unwrap_or_default();
    last_error(&log).unwrap_or_else(|| format!("exit status {status} without a message"))
}

fn last_error(log: &[u8]) -> Option<String> {
    let lines = log.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    let mut errors =
        lines.filter(|line| matches!(line.level.as_str(), "error" | "fatal") && !line.msg.is_empty());
    let message = errors.next_back()?.msg;
    Some(message.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_in_one_line() {
        let log = br#"{"level":"warning","msg":"w"}
not json
{"level":"error","msg":"first"}
{"level":"error","msg":"runc run failed:\n  no such file","time":"x"}
{"level":"info","msg":"bye"}
"#;
        assert_eq!(last_error(log).as_deref(), Some("runc run failed: no such file"));
        assert_eq!(last_error(b"{\"level\":\"info\",\"msg\":\"x\"}"), None);
        assert_eq!(failure(Path::new("/nonexistent"), "log", 3), "exit status 3 without a message");
    }
}
