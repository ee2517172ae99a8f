use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use buildkit_solver_pb::{Definition, Op, OpMetadata, file_action, map, op};
use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::Object;
use buildkit_util_gotext::quoted;
use prost::Message as _;

use crate::cli::DumpLlb;

/// An op of a definition with what is said about it.
struct Entry {
    op: Op,
    digest: Digest,
    metadata: OpMetadata,
}

pub(crate) fn run(args: &DumpLlb) -> Result<()> {
    let data = match &args.file {
        Some(path) if path != Path::new("-") => fs_err::read(path)?,
        _ => {
            let mut data = Vec::new();
            std::io::stdin().read_to_end(&mut data).context("failed to read standard input")?;
            data
        }
    };
    let entries = load(&data)?;
    let text = if args.dot { dot(&entries) } else { entries.iter().map(json).collect() };
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to standard output")
}

fn load(data: &[u8]) -> Result<Vec<Entry>> {
    let definition = Definition::decode(data).context("failed to parse input")?;
    let mut metadata: BTreeMap<String, OpMetadata> = map::to_map(definition.metadata);
    definition
        .def
        .iter()
        .map(|data| {
            let op = Op::decode(data.as_ref()).context("failed to parse op")?;
            let digest = Digest::sha256(data);
            let metadata = metadata.remove(digest.as_str()).unwrap_or_default();
            Ok(Entry { op, digest, metadata })
        })
        .collect()
}

fn json(entry: &Entry) -> String {
    let mut out = String::new();
    Object::new(&mut out)
        .field("Op", &entry.op)
        .field("Digest", entry.digest.as_str())
        .field("OpMetadata", &entry.metadata);
    out.push('\n');
    out
}

/// The graph in the language of graphviz.
fn dot(entries: &[Entry]) -> String {
    let mut out = String::from("digraph {\n");
    for entry in entries {
        let (name, shape) = label(entry);
        out.push_str(&format!(
            "  {} [label={} shape={}];\n",
            quoted(entry.digest.as_str()),
            quoted(&name),
            quoted(shape)
        ));
    }
    for entry in entries {
        for (index, input) in (0i64..).zip(&entry.op.inputs) {
            let mut label = "";
            if let Some(op::Op::Exec(exec)) = &entry.op.op {
                for mount in &exec.mounts {
                    if mount.input == index && mount.dest != "/" {
                        label = &mount.dest;
                    }
                }
            }
            out.push_str(&format!(
                "  {} -> {} [label={}];\n",
                quoted(&input.digest),
                quoted(entry.digest.as_str()),
                quoted(label)
            ));
        }
    }
    out.push_str("}\n");
    out
}

fn label(entry: &Entry) -> (String, &'static str) {
    match &entry.op.op {
        Some(op::Op::Source(source)) => (source.identifier.clone(), "ellipse"),
        Some(op::Op::Exec(exec)) => {
            let args = exec.meta.as_ref().map(|meta| meta.args.join(" "));
            (args.unwrap_or_default(), "box")
        }
        Some(op::Op::Build(_)) => ("build".to_owned(), "box3d"),
        Some(op::Op::Merge(_)) => ("merge".to_owned(), "invtriangle"),
        Some(op::Op::Diff(_)) => ("diff".to_owned(), "doublecircle"),
        Some(op::Op::File(file)) => {
            let names: Vec<_> = file.actions.iter().map(|action| action_name(&action.action)).collect();
            (names.join(","), "note")
        }
        Some(op::Op::Passthrough(_)) | None => (entry.digest.as_str().to_owned(), "plaintext"),
    }
}

fn action_name(action: &Option<file_action::Action>) -> String {
    use file_action::Action;
    match action {
        Some(Action::Copy(copy)) => format!("copy{{src={}, dest={}}}", copy.src, copy.dest),
        Some(Action::Mkfile(file)) => format!("mkfile{{path={}}}", file.path),
        Some(Action::Mkdir(dir)) => format!("mkdir{{path={}}}", dir.path),
        Some(Action::Rm(rm)) => format!("rm{{path={}}}", rm.path),
        Some(Action::Symlink(link)) => {
            format!("symlink{{oldpath={}, newpath={}}}", link.oldpath, link.newpath)
        }
        None => String::new(),
    }
}
