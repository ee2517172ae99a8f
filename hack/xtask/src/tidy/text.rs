//! All text files: nothing unfinished, nothing of one machine.

use std::fs;

use super::Finding;
use crate::workspace::Workspace;

/// Marks of what is not finished. Spelt in two, so that this file has none.
const MARKS: [(&str, &str); 7] = [
    (concat!("FIX", "ME"), "finish it, or say what is missing in the documentation"),
    (concat!("XX", "X "), "finish it, or say what is missing in the documentation"),
    (concat!("#[ign", "ore"), "a test that nobody runs is no test"),
    (concat!("todo", "!("), "finish it"),
    (concat!("unimpl", "emented!("), "finish it"),
    (concat!("<<<<", "<<< "), "resolve the conflict"),
    (concat!(">>>>", ">>> "), "resolve the conflict"),
];

/// A test that is the second process of another test, which runs it by name.
const CHILD: &str = concat!("#[ign", "ore = \"run by ");

/// Recorded data is as it was recorded.
fn recorded(file: &str) -> bool {
    file.contains("/vectors/") || file.contains("/generated/") || file == "Cargo.lock" || file == "LICENSE"
}

/// Checks all files that are text.
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let unwanted = unwanted(workspace);
    let mut findings = Vec::new();
    for file in workspace.files.iter().filter(|file| !recorded(file)) {
        let Some(text) = workspace.text(file) else { continue };
        findings.extend(lines(file, &text, &unwanted));
    }
    findings
}

/// What belongs to this machine alone: where the repository lies, and what its owner listed, one a line, in
/// `.git/info/unwanted`.
fn unwanted(workspace: &Workspace) -> Vec<String> {
    let mut unwanted = Vec::new();
    if workspace.root.components().count() > 2 {
        unwanted.push(workspace.root.display().to_string().to_lowercase());
    }
    let listed = fs::read_to_string(workspace.root.join(".git/info/unwanted")).unwrap_or_default();
    unwanted.extend(listed.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_lowercase));
    unwanted
}

fn lines(file: &str, text: &str, unwanted: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let place = || format!("{file}:{}", at + 1);
        for (mark, advice) in MARKS {
            if line.contains(mark) && !line.contains(CHILD) {
                findings.push(Finding::new(place(), format!("{:?}: {advice}", mark.trim())));
            }
        }
        let lower = line.to_lowercase();
        for word in unwanted.iter().filter(|word| lower.contains(word.as_str())) {
            findings.push(Finding::new(place(), format!("{word:?} does not belong into the project")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_places_of_a_machine_are_found() {
        let text = format!("fine\n// {}: later\nsee /Home/Me/Repo/x\n", MARKS[0].0);
        let places: Vec<String> = lines("a.rs", &text, &["/home/me/repo".into()])
            .into_iter()
            .map(|finding| finding.place)
            .collect();
        assert_eq!(places, ["a.rs:2", "a.rs:3"]);
        assert_eq!(lines("a.rs", "fine", &["other".into()]), []);
        assert_eq!(lines("a.rs", &format!("{CHILD}another test\"]"), &[]), []);
    }

    #[test]
    fn recorded_data_is_left_alone() {
        assert!(recorded("a/tests/vectors/x.json") && recorded("a/src/generated/x.rs"));
        assert!(!recorded("a/src/x.rs"));
    }
}
