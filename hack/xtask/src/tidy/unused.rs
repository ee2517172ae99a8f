//! Dependencies that no code names, and those that only tests name.

use super::Finding;
use super::code::{Keep, code, has_word};
use crate::workspace::{Crate, Dependency, Kind, Workspace};

/// Checks every dependency of every crate.
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for krate in &workspace.crates {
        let texts: Vec<(Use, String)> = workspace
            .below(&krate.dir)
            .filter(|file| file.ends_with(".rs"))
            .filter(|file| workspace.owner(file).is_some_and(|owner| owner.dir == krate.dir))
            .filter_map(|file| {
                let inside = &file[krate.dir.len() + 1..];
                let text = workspace.text(file)?;
                // What is generated names crates in the arguments of attributes, which are literals.
                let text = if inside.contains("/generated/") { text } else { code(&text, Keep::Docs) };
                Some((of_path(inside), text))
            })
            .collect();
        let place = format!("{}/Cargo.toml", krate.dir);
        findings.extend(unused(krate, &texts).into_iter().map(|text| Finding::new(&place, text)));
    }
    findings
}

/// Who uses the code of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Crate,
    Tests,
    Build,
}

fn of_path(inside: &str) -> Use {
    let tests = ["tests/", "benches/", "examples/"].iter().any(|dir| inside.starts_with(dir));
    match inside {
        "build.rs" => Use::Build,
        _ if tests || inside.ends_with("/tests.rs") || inside.contains("/tests/") => Use::Tests,
        _ => Use::Crate,
    }
}

fn unused(krate: &Crate, texts: &[(Use, String)]) -> Vec<String> {
    let named = |dependency: &Dependency, who: &[Use]| {
        texts.iter().any(|(by, text)| who.contains(by) && has_word(text, &dependency.ident))
    };
    let mut found = Vec::new();
    for dependency in &krate.dependencies {
        // A crate that turns on its own features for its tests.
        if dependency.dir.as_deref() == Some(&krate.dir) {
            continue;
        }
        let name = &dependency.name;
        let text = match dependency.kind {
            Kind::Normal if named(dependency, &[Use::Crate]) => continue,
            Kind::Normal if named(dependency, &[Use::Tests]) => {
                format!("only tests use `{name}`: a dev dependency")
            }
            Kind::Dev if named(dependency, &[Use::Tests, Use::Crate]) => continue,
            Kind::Build if named(dependency, &[Use::Build]) => continue,
            Kind::Normal | Kind::Dev | Kind::Build => format!("nothing uses `{name}`"),
        };
        found.push(text);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(name: &str, kind: Kind) -> Dependency {
        Dependency { name: name.into(), ident: name.replace('-', "_"), kind, dir: None }
    }

    #[test]
    fn unused_and_misplaced_dependencies_are_found() {
        let krate = Crate {
            name: "a".into(),
            dir: "a".into(),
            description: String::new(),
            manifest: toml::Table::new(),
            dependencies: vec![
                dependency("used-one", Kind::Normal),
                dependency("only-tests", Kind::Normal),
                dependency("gone", Kind::Normal),
                dependency("dev", Kind::Dev),
                dependency("dev-gone", Kind::Dev),
                dependency("maker", Kind::Build),
            ],
            roots: Vec::new(),
        };
        let texts = [
            (Use::Crate, "use used_one::X;".to_owned()),
            (Use::Tests, "use only_tests::Y; dev::f(); gone_not();".to_owned()),
            (Use::Build, "maker::make()".to_owned()),
        ];
        assert_eq!(
            unused(&krate, &texts),
            [
                "only tests use `only-tests`: a dev dependency",
                "nothing uses `gone`",
                "nothing uses `dev-gone`"
            ]
        );
    }

    #[test]
    fn files_are_told_apart_by_place() {
        assert_eq!(of_path("src/x.rs"), Use::Crate);
        assert_eq!(of_path("src/matcher/tests.rs"), Use::Tests);
        assert_eq!(of_path("benches/x.rs"), Use::Tests);
        assert_eq!(of_path("build.rs"), Use::Build);
    }
}
