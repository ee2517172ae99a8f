use anyhow::{Result, bail};
use buildkit_session_secrets_secretsprovider::{Secret, SecretFrom};

use super::fields;

/// Parses the values of `--secret`.
pub(crate) fn parse(list: &[String]) -> Result<Vec<Secret>> {
    list.iter().map(|line| parse_one(line)).collect()
}

fn parse_one(line: &str) -> Result<Secret> {
    let (mut id, mut path, mut env, mut is_env) = (String::new(), String::new(), String::new(), false);
    for field in fields::csv(line)? {
        let Some((key, value)) = field.split_once('=') else {
            bail!("invalid field '{field}' must be a key=value pair");
        };
        let key = key.to_lowercase();
        match key.as_str() {
            "type" => match value {
                "file" => is_env = false,
                "env" => is_env = true,
                other => bail!("unsupported secret type {other:?}"),
            },
            "id" => value.clone_into(&mut id),
            "source" | "src" => value.clone_into(&mut path),
            "env" => value.clone_into(&mut env),
            _ => bail!("unexpected key '{key}' in '{field}'"),
        }
    }
    if is_env && env.is_empty() {
        env = std::mem::take(&mut path);
    }
    let from = match (env.is_empty(), path.is_empty()) {
        (false, _) => SecretFrom::Env(env),
        (true, false) => SecretFrom::File(path.into()),
        (true, true) => SecretFrom::Guess,
    };
    Ok(Secret { id, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        for (line, expect) in [
            ("id=a", SecretFrom::Guess),
            ("id=a,src=/f", SecretFrom::File("/f".into())),
            ("id=a,source=/f,type=file", SecretFrom::File("/f".into())),
            ("id=a,env=E", SecretFrom::Env("E".into())),
            ("type=env,ID=a,src=E", SecretFrom::Env("E".into())),
        ] {
            assert_eq!(parse_one(line).expect(line), Secret { id: "a".into(), from: expect });
        }
        for line in ["id", "id=a,x=y", "id=a,type=x"] {
            assert!(parse_one(line).is_err(), "{line}");
        }
    }
}
