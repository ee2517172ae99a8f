//! What cargo and git know about this repository, as plain data for the checks.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The repository: its crates and every file that is or would be committed.
pub struct Workspace {
    pub root: PathBuf,
    pub crates: Vec<Crate>,
    /// Paths from the root, sorted.
    pub files: Vec<String>,
    /// The root manifest.
    pub manifest: toml::Table,
}

/// One crate of the workspace.
pub struct Crate {
    pub name: String,
    /// Directory from the root, with `/` between names.
    pub dir: String,
    pub description: String,
    pub manifest: toml::Table,
    pub dependencies: Vec<Dependency>,
    /// Root files of the library and of all programs, from the repository's root.
    pub roots: Vec<String>,
}

/// A line of a dependency table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    /// The identifier that code knows it by.
    pub ident: String,
    pub kind: Kind,
    /// Directory of a crate of this workspace.
    pub dir: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Build,
    Dev,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    description: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<MemberDependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct MemberDependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Workspace {
    /// Reads the workspace at `root`; nothing is built or fetched.
    pub fn load(root: &Path) -> Result<Self> {
        let metadata: Metadata = metadata(root, &["--no-deps", "--offline"])?;
        let mut crates = metadata
            .packages
            .into_iter()
            .map(|member| read_crate(root, member))
            .collect::<Result<Vec<_>>>()?;
        crates.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(Self {
            root: root.to_owned(),
            crates,
            files: files(root)?,
            manifest: table(&root.join("Cargo.toml"))?,
        })
    }

    /// The text of a file, by its path from the root; `None` for one that is gone or not text.
    pub fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.root.join(file)).ok()
    }

    /// Files below a directory of the repository.
    pub fn below<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a str> {
        self.files
            .iter()
            .map(String::as_str)
            .filter(move |file| file.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The crate whose directory holds `file`: the deepest one.
    pub fn owner(&self, file: &str) -> Option<&Crate> {
        self.crates
            .iter()
            .filter(|krate| file.strip_prefix(krate.dir.as_str()).is_some_and(|rest| rest.starts_with('/')))
            .max_by_key(|krate| krate.dir.len())
    }
}

/// Reads a TOML file.
pub fn table(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| format!("Failed to read `{}`", path.display()))?;
    text.parse().with_context(|| format!("Failed to parse `{}`", path.display()))
}

fn metadata(root: &Path, args: &[&str]) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--format-version", "1"]).args(args);
    serde_json::from_str(&output(command)?).context("Failed to read what `cargo metadata` wrote")
}

/// Files of the repository, sorted: all but those that its ignore files name.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .git_global(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk {
        let entry = entry.context("Failed to list the files of the repository")?;
        if entry.file_type().is_some_and(|kind| kind.is_file())
            && let Ok(path) = entry.path().strip_prefix(root)
        {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    Ok(files)
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("Failed to run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} wrote bytes that are not UTF-8"))
}

fn read_crate(root: &Path, member: Member) -> Result<Crate> {
    let dir = member.manifest_path.parent().with_context(|| format!("`{}` has no manifest", member.name))?;
    let dependencies = member
        .dependencies
        .into_iter()
        .map(|dependency| {
            Ok(Dependency {
                ident: dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_"),
                kind: match dependency.kind.as_deref() {
                    None => Kind::Normal,
                    Some("build") => Kind::Build,
                    Some(_) => Kind::Dev,
                },
                dir: dependency.path.map(|path| relative(root, &path)).transpose()?,
                name: dependency.name,
            })
        })
        .collect::<Result<_>>()?;
    let roots = member
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"))
        .map(|target| relative(root, &target.src_path))
        .collect::<Result<_>>()?;
    Ok(Crate {
        manifest: table(&member.manifest_path)?,
        dir: relative(root, dir)?,
        description: member.description.unwrap_or_default(),
        name: member.name,
        dependencies,
        roots,
    })
}

fn relative(root: &Path, path: &Path) -> Result<String> {
    let inside = path
        .strip_prefix(root)
        .with_context(|| format!("`{}` is outside of the repository", path.display()))?;
    inside.to_str().map(str::to_owned).with_context(|| format!("`{}` is not UTF-8", path.display()))
}

/// Entries of a table of strings to tables or plain values, for rules that walk manifests.
pub fn entries<'a>(table: &'a toml::Table, path: &[&str]) -> BTreeMap<&'a str, &'a toml::Value> {
    let mut here = table;
    for name in path {
        match here.get(*name).and_then(toml::Value::as_table) {
            Some(next) => here = next,
            None => return BTreeMap::new(),
        }
    }
    here.iter().map(|(key, value)| (key.as_str(), value)).collect()
}
