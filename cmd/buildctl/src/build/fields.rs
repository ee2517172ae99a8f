//! Values of flags that hold several `key=value` pairs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use buildkit_util_gotext::csv_fields;

/// The fields of one line of CSV, quoted ones without their quotes.
pub(crate) fn csv(line: &str) -> Result<Vec<String>> {
    csv_fields(line).with_context(|| format!("failed to parse {line:?} as CSV"))
}

/// The pairs of one line of CSV, keys in lower case. `type` is apart.
pub(crate) fn typed(line: &str) -> Result<(String, BTreeMap<String, String>)> {
    let (mut kind, mut attrs) = (String::new(), BTreeMap::new());
    for field in csv(line)? {
        let Some((key, value)) = field.split_once('=') else { bail!("invalid value {field}") };
        let key = key.to_lowercase();
        if key == "type" {
            value.clone_into(&mut kind);
        } else {
            attrs.insert(key, value.to_owned());
        }
    }
    Ok((kind, attrs))
}

/// Pairs that are given one by one.
pub(crate) fn pairs(list: &[String]) -> Result<BTreeMap<String, String>> {
    list.iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').with_context(|| format!("invalid value {pair}"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields() {
        assert_eq!(csv(r#"type=x,"a=b,c",d="#).expect("fits"), ["type=x", "a=b,c", "d="]);
        assert_eq!(csv(r#""name=a ""b""""#).expect("fits"), [r#"name=a "b""#]);
        let (kind, attrs) = typed(r#"Type=local,"Names=a,b",dest=X"#).expect("fits");
        assert_eq!(kind, "local");
        assert_eq!(
            attrs.into_iter().collect::<Vec<_>>(),
            [("dest".to_owned(), "X".to_owned()), ("names".to_owned(), "a,b".to_owned()),]
        );
        assert_eq!(typed("type").expect_err("no value").to_string(), "invalid value type");
    }
}
