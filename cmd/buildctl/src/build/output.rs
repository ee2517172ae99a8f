use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use buildkit_client::{Export, ExportTarget};
use buildkit_util_gotext::parse_bool;

use super::fields;

/// Parses the values of `--output`. Files are made here, so that a build that cannot write fails
/// before it starts.
pub(crate) fn parse(list: &[String]) -> Result<Vec<Export>> {
    list.iter().map(|line| parse_one(line)).collect()
}

fn parse_one(line: &str) -> Result<Export> {
    let (kind, mut attrs) = fields::typed(line)?;
    if kind.is_empty() {
        bail!("--output requires type=<type>");
    }
    if let Some(value) = attrs.get("output") {
        bail!("output={value} not supported for --output, you meant dest={value}?");
    }
    let dest = attrs.get("dest").cloned().unwrap_or_default();
    let is_tar = attrs.get("tar").and_then(|text| parse_bool(text)).unwrap_or(true);
    let target = match kind.as_str() {
        "local" => directory(&kind, &dest),
        "oci" | "docker" if !is_tar => directory(&kind, &dest),
        "tar" | "oci" | "docker" => file(&kind, &dest),
        _ if dest.is_empty() => Ok(ExportTarget::None),
        _ => Err(anyhow!("output {dest} is not supported by {kind} exporter")),
    }
    .context("invalid output option: output")?;
    if !matches!(target, ExportTarget::None) {
        attrs.remove("dest");
    }
    Ok(Export { kind, attrs, target })
}

fn directory(kind: &str, dest: &str) -> Result<ExportTarget> {
    if dest.is_empty() {
        bail!("output directory is required for {kind} exporter");
    }
    Ok(ExportTarget::Directory(dest.into()))
}

/// A file, or standard output unless that is a terminal.
fn file(kind: &str, dest: &str) -> Result<ExportTarget> {
    if !matches!(dest, "" | "-") {
        if fs_err::metadata(dest).is_ok_and(|metadata| metadata.is_dir()) {
            bail!("destination file is a directory");
        }
        let file = fs_err::File::create(dest)?;
        return Ok(ExportTarget::File(Arc::new(file.into_file())));
    }
    let stdout = std::io::stdout();
    if rustix::termios::isatty(&stdout) {
        bail!("output file is required for {kind} exporter. refusing to write to console");
    }
    let file = rustix::io::dup(&stdout).context("failed to use standard output")?;
    Ok(ExportTarget::File(Arc::new(file.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> String {
        match parse_one(line) {
            Ok(Export { kind, attrs, target }) => {
                let target = match target {
                    ExportTarget::None => "nothing".to_owned(),
                    ExportTarget::Directory(path) => path.display().to_string(),
                    ExportTarget::File(_) => "a file".to_owned(),
                    ExportTarget::Store(_) => "a store".to_owned(),
                };
                format!("{kind} {attrs:?} to {target}")
            }
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn outputs() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.tar").display().to_string();
        for (line, expect) in [
            ("type=local,dest=out", r#"local {} to out"#),
            ("type=local,DEST=out,mode=delete", r#"local {"mode": "delete"} to out"#),
            (r#"type=image,"name=a,b",push=true"#, r#"image {"name": "a,b", "push": "true"} to nothing"#),
            (&format!("type=tar,dest={path}"), "tar {} to a file"),
            (&format!("type=oci,dest={path},tar=true"), r#"oci {"tar": "true"} to a file"#),
            ("type=oci,dest=d,tar=false", r#"oci {"tar": "false"} to d"#),
            ("dest=x", "--output requires type=<type>"),
            ("type=local,output=x", "output=x not supported for --output, you meant dest=x?"),
            ("type=local", "invalid output option: output: output directory is required for local exporter"),
            (
                "type=image,dest=x",
                "invalid output option: output: output x is not supported by image exporter",
            ),
            (
                &format!("type=tar,dest={}", dir.path().display()),
                "invalid output option: output: destination file is a directory",
            ),
            ("local", "invalid value local"),
        ] {
            assert_eq!(check(line), expect, "{line}");
        }
    }
}
