//! Keys of images, with the bytes that other daemons hash.

use buildkit_util_cachedigest::Digest;
use buildkit_util_gojson::Object;
use buildkit_util_ocispec::{Image, Platform};

/// Key of an image for a platform, by the digest of what its name stands for.
pub(crate) fn manifest_key(digest: &Digest, platform: &Platform, limit: Option<usize>) -> Digest {
    let mut json = String::new();
    let mut object = Object::new(&mut json);
    let features: Vec<&str> = platform.os_features.iter().map(String::as_str).collect();
    object
        .field("Digest", digest.as_str())
        .field("OS", platform.os.as_str())
        .field("Arch", platform.architecture.as_str())
        .omit_empty("Variant", platform.variant.as_str())
        .omit_empty("OSVersion", platform.os_version.as_str())
        .omit_empty("OSFeatures", features.as_slice());
    if let Some(limit) = limit {
        object.field("Limit", &i64::try_from(limit).unwrap_or(i64::MAX));
    }
    drop(object);
    Digest::sha256(json)
}

/// Key of an image by its layers; `None` if it has none.
pub(crate) fn content_key(config: &[u8], limit: Option<usize>) -> Result<Option<Digest>, String> {
    let image: Image = match (serde_json::from_slice(config), limit) {
        (Ok(image), _) => image,
        (Err(error), Some(_)) => return Err(format!("failed to parse image config: {error}")),
        (Err(_), None) => return Ok(Some(Digest::sha256(config))),
    };
    let mut diff_ids = image.rootfs.diff_ids;
    if let Some(limit) = limit {
        if diff_ids.len() < limit {
            return Err(format!("image has {} layers, limit is {limit}", diff_ids.len()));
        }
        diff_ids.truncate(limit);
    }
    if image.rootfs.kind != "layers" {
        return Ok(None);
    }
    // Chain ids of the OCI image specification (config.md, "Layer ChainID").
    Ok(diff_ids.into_iter().reduce(|chain, diff_id| Digest::sha256(format!("{chain} {diff_id}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_others() {
        let digest = Digest::sha256("x");
        let platform = Platform::new("linux", "amd64");
        let json = format!(r#"{{"Digest":"{digest}","OS":"linux","Arch":"amd64"}}"#);
        assert_eq!(manifest_key(&digest, &platform, None), Digest::sha256(json));
        let platform = Platform { variant: "v7".to_owned(), ..Platform::new("linux", "arm") };
        let json = format!(r#"{{"Digest":"{digest}","OS":"linux","Arch":"arm","Variant":"v7","Limit":1}}"#);
        assert_eq!(manifest_key(&digest, &platform, Some(1)), Digest::sha256(json));
    }

    #[test]
    fn layers_are_a_chain() {
        let (one, two) = (Digest::sha256("1"), Digest::sha256("2"));
        let config = |kind: &str| {
            format!(r#"{{"rootfs":{{"type":"{kind}","diff_ids":["{one}","{two}"]}}}}"#).into_bytes()
        };
        let chain = Digest::sha256(format!("{one} {two}"));
        assert_eq!(content_key(&config("layers"), None), Ok(Some(chain)));
        assert_eq!(content_key(&config("layers"), Some(1)), Ok(Some(one.clone())));
        assert_eq!(content_key(&config("layers"), Some(3)), Err("image has 2 layers, limit is 3".to_owned()));
        assert_eq!(content_key(&config("other"), None), Ok(None));
        assert_eq!(content_key(b"no json", None), Ok(Some(Digest::sha256("no json"))));
    }
}
