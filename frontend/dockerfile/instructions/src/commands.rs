use buildkit_frontend_dockerfile_parser::{Args, Word};

use crate::error::At;
use crate::flags::Takes;
use crate::parse::Report;
use crate::request::{Request, command_words, doc_comment};
use crate::{
    Arg, ArgDefinition, Device, Error, Expose, Mount, NetworkMode, Onbuild, Run, SecurityMode, Shell, Volume,
};

/// `ARG`. It has no flags, and takes no offence at some.
pub(crate) fn arg(request: &Request<'_>, report: &mut Report<'_>) -> Result<Arg, At> {
    let origin = request.origin();
    let definition = |word: &Word| {
        let (key, value) =
            word.text.split_once('=').map_or((&*word.text, None), |(key, value)| (key, Some(value)));
        if key.is_empty() && value.is_some() {
            return Err(At { error: Error::BlankName(request.keyword), offset: Some(word.offset) });
        }
        let doc_comment = doc_comment(&origin.comments, key);
        Ok(ArgDefinition { key: key.to_owned(), value: value.map(str::to_owned), doc_comment })
    };
    let args = request.some_words()?.iter().map(definition).collect::<Result<Vec<_>, At>>()?;
    let keys: Vec<String> = args.iter().map(|definition| definition.key.clone()).collect();
    report.description("ARG", &keys);
    Ok(Arg { args, origin })
}

/// `RUN`.
pub(crate) fn run(request: &Request<'_>) -> Result<Run, At> {
    let flags = request.flags(&[
        ("mount", Takes::Texts),
        ("network", Takes::Text),
        ("security", Takes::Text),
        ("device", Takes::Texts),
    ])?;
    let at = |error, offset| At { error, offset: Some(offset) };
    let devices =
        flags.texts("device").map(|(text, offset)| Device::parse(text).map_err(|it| at(it, offset)));
    let devices = devices.collect::<Result<_, _>>()?;
    let mounts =
        flags.texts("mount").map(|(text, offset)| Mount::parse(text, None).map_err(|it| at(it, offset)));
    let mounts = mounts.collect::<Result<_, _>>()?;
    let network = match flags.offset("network").map(|offset| (flags.text("network"), offset)) {
        None | Some(("default", _)) => NetworkMode::Default,
        Some(("none", _)) => NetworkMode::None,
        Some(("host", _)) => NetworkMode::Host,
        Some((other, offset)) => return Err(at(Error::NetworkMode(other.to_owned()), offset)),
    };
    let security = match flags.offset("security").map(|offset| (flags.text("security"), offset)) {
        None | Some(("sandbox", _)) => SecurityMode::Sandbox,
        Some(("insecure", _)) => SecurityMode::Insecure,
        Some((other, offset)) => return Err(at(Error::SecurityMode(other.to_owned()), offset)),
    };
    Ok(Run {
        command: request.command(),
        flags_used: flags.used(),
        mounts,
        mount_flags: flags.texts("mount").map(|(text, _)| text.to_owned()).collect(),
        network,
        security,
        devices,
        origin: request.origin(),
    })
}

/// `EXPOSE`.
pub(crate) fn expose(request: &Request<'_>) -> Result<Expose, At> {
    let mut ports: Vec<String> = request.some_words()?.iter().map(|word| word.text.clone()).collect();
    request.no_flags()?;
    ports.sort_unstable();
    Ok(Expose { ports, origin: request.origin() })
}

/// `VOLUME`.
pub(crate) fn volume(request: &Request<'_>) -> Result<Volume, At> {
    let words = request.some_words()?;
    request.no_flags()?;
    let path = |word: &Word| match word.text.trim() {
        "" => Err(At { error: Error::EmptyVolume, offset: Some(word.offset) }),
        path => Ok(path.to_owned()),
    };
    Ok(Volume { volumes: words.iter().map(path).collect::<Result<_, _>>()?, origin: request.origin() })
}

/// `SHELL`.
pub(crate) fn shell(request: &Request<'_>) -> Result<Shell, At> {
    request.no_flags()?;
    let words = request.some_words()?;
    if !request.node.json {
        return Err(Error::NotJson(request.keyword).into());
    }
    Ok(Shell { shell: command_words(words, true), origin: request.origin() })
}

/// `ONBUILD`.
pub(crate) fn onbuild(request: &Request<'_>) -> Result<Onbuild, At> {
    let Args::Trigger(trigger) = &request.node.args else {
        return Err(Error::AtLeastOneArgument(request.keyword).into());
    };
    request.no_flags()?;
    match trigger.keyword.to_uppercase().as_str() {
        "ONBUILD" => return Err(Error::ChainedOnbuild.into()),
        keyword @ ("MAINTAINER" | "FROM") => return Err(Error::Trigger(keyword.to_owned()).into()),
        _ => {}
    }
    let original = &request.node.original;
    let blanks = ['\t', '\n', '\u{c}', '\r', ' '];
    let behind = original.trim_start_matches(blanks).get(request.node.keyword.len()..).unwrap_or_default();
    let mut expression = behind.trim_start_matches(blanks).to_owned();
    for heredoc in &request.node.heredocs {
        expression.extend(["\n", &heredoc.content, &heredoc.name]);
    }
    Ok(Onbuild { expression, origin: request.origin() })
}
