use anyhow::Result;
use buildkit_api_types::BuildkitVersion;
use buildkit_util_tabwriter::{Fill, align};

use crate::cli::{Format, Global};
use crate::connect::connect;
use crate::template::{Data, Template};

pub(crate) async fn run(global: &Global, args: &Format) -> Result<()> {
    let format = args.format.as_deref().map(Template::parse).transpose()?;
    let version = connect(global).await?.info().await?;
    if let Some(format) = format {
        let info = Data::Struct(vec![("BuildkitVersion", "buildkitVersion", data(&version))]);
        println!("{}", format.render(&info)?);
        return Ok(());
    }
    print!("{}", align(&text(&version), Fill::Spaces(1)));
    Ok(())
}

/// A version as lines of a table.
pub(crate) fn text(version: &BuildkitVersion) -> String {
    let mut out = format!("BuildKit:\t{} {} {}\n", version.package, version.version, version.revision);
    if !version.dockerfile_version.is_empty() {
        out.push_str(&format!("Dockerfile:\t{}\n", version.dockerfile_version));
    }
    out
}

/// A version for templates.
pub(crate) fn data(version: &BuildkitVersion) -> Data {
    let text = |text: &str| Data::Text(text.to_owned());
    Data::Struct(vec![
        ("Package", "package", text(&version.package)),
        ("Version", "version", text(&version.version)),
        ("Revision", "revision", text(&version.revision)),
        ("DockerfileVersion", "dockerfileVersion", text(&version.dockerfile_version)),
    ])
}
