use anyhow::{Result, bail};
use buildkit_session_sshforward_sshprovider::Agent;
use buildkit_util_gotext::parse_bool;

/// Parses the values of `--ssh`.
pub(crate) fn parse(list: &[String]) -> Result<Vec<Agent>> {
    list.iter().map(|text| parse_one(text)).collect()
}

fn parse_one(text: &str) -> Result<Agent> {
    let (id, value) = match text.split_once('=') {
        Some((id, value)) => (id, Some(value)),
        None => (text, None),
    };
    let mut agent = Agent { id: id.to_owned(), paths: Vec::new(), raw: false };
    for part in value.iter().flat_map(|value| value.split(',')) {
        match part.split_once('=') {
            Some(("raw", value)) => match parse_bool(value) {
                Some(raw) => agent.raw = raw,
                None => bail!("invalid value for 'raw': {value}"),
            },
            _ => agent.paths.push(part.into()),
        }
    }
    if agent.raw && agent.paths.len() != 1 {
        bail!("raw mode must supply exactly one socket path for {:?}", agent.id);
    }
    Ok(agent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn agents() {
        for (text, id, paths, raw) in [
            ("default", "default", &[][..], false),
            ("x=/sock", "x", &["/sock"], false),
            ("x=/k1,/k2", "x", &["/k1", "/k2"], false),
            ("x=/sock,raw=true", "x", &["/sock"], true),
            ("x=/a=b", "x", &["/a=b"], false),
        ] {
            let paths = paths.iter().map(PathBuf::from).collect();
            assert_eq!(parse_one(text).expect(text), Agent { id: id.to_owned(), paths, raw });
        }
        for text in ["x=/a,raw=maybe", "x=raw=true", "x=/a,/b,raw=1"] {
            assert!(parse_one(text).is_err(), "{text}");
        }
    }
}
