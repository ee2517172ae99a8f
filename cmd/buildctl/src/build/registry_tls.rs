//! `--registry-auth-tlscontext`: TLS towards the servers that give tokens for registries.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use buildkit_util_gotext::parse_bool;
use buildkit_util_resolver::{KeyPair, TlsFiles};

use super::fields::csv;

/// TLS by registry. Several flags for one registry add up.
pub(crate) fn parse(flags: &[String]) -> Result<BTreeMap<String, TlsFiles>> {
    let mut all: BTreeMap<String, TlsFiles> = BTreeMap::new();
    for flag in flags {
        let (mut host, mut ca, mut cert, mut key, mut insecure) =
            (String::new(), String::new(), String::new(), String::new(), false);
        for field in csv(flag)? {
            let Some((name, value)) = field.split_once('=') else { bail!("invalid value {field}") };
            match name.to_lowercase().as_str() {
                "host" => value.clone_into(&mut host),
                "ca" => value.clone_into(&mut ca),
                "cert" => value.clone_into(&mut cert),
                "key" => value.clone_into(&mut key),
                "insecure" => insecure = parse_bool(value).unwrap_or_default(),
                _ => {}
            }
        }
        if host.is_empty() {
            bail!("--registry-auth-tlscontext requires host=<host>");
        }
        if ca.is_empty() && !insecure && (cert.is_empty() || key.is_empty()) {
            bail!("--registry-auth-tlscontext requires ca=<ca> or cert=<cert>,key=<key> or insecure=true");
        }
        if cert.is_empty() != key.is_empty() {
            bail!("--registry-auth-tlscontext requires cert=<cert>,key=<key>");
        }
        let files = all.entry(host).or_default();
        files.insecure |= insecure;
        if !ca.is_empty() {
            files.root_cas.push(ca.into());
        }
        if !cert.is_empty() {
            files.key_pairs.push(KeyPair { key: key.into(), cert: cert.into() });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_add_up() {
        let parse = |flags: &[&str]| parse(&flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>());
        let all = parse(&["host=a:1,ca=/ca", "host=a:1,cert=/c,key=/k", "host=b,insecure=true"]).unwrap();
        assert_eq!(
            (all["a:1"].root_cas.len(), all["a:1"].key_pairs.len(), all["a:1"].insecure),
            (1, 1, false)
        );
        assert!(all["b"].insecure);
        for (flag, text) in [
            ("ca=/ca", "host=<host>"),
            ("host=a", "ca=<ca> or"),
            ("host=a,ca=/ca,cert=/c", "cert=<cert>,key=<key>"),
            ("host", "invalid value host"),
        ] {
            let error = parse(&[flag]).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
