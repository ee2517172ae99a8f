use std::collections::BTreeMap;

use async_trait::async_trait;
use buildkit_session::SessionGroup;
use buildkit_util_ocispec::annotation;
use buildkit_util_pull::RegistryImage;
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries};

use crate::{CacheImporter, Error, RemoteCache, read_cache};

/// Caches in registries: manifests of caches, and images that say what they can be cache for.
pub struct RegistryCache {
    registries: Registries,
}

impl RegistryCache {
    /// Caches in these registries.
    pub fn new(registries: Registries) -> Self {
        Self { registries }
    }
}

#[async_trait]
impl CacheImporter for RegistryCache {
    fn kind(&self) -> &'static str {
        "registry"
    }

    async fn import(
        &self,
        attrs: &BTreeMap<String, String>,
        group: &SessionGroup,
    ) -> Result<RemoteCache, Error> {
        let text = attrs.get("ref").filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Error::Option("missing ref of a registry cache".to_owned()))?;
        let reference = Reference::parse(text)
            .map_err(|error| Error::Option(format!("invalid ref {text:?} of a registry cache: {error}")))?
            .with_default_tag();
        let insecure = match attrs.get("registry.insecure").map(String::as_str) {
            None => false,
            // What Go's `strconv.ParseBool` takes.
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some(other) => {
                return Err(Error::Option(format!("failed to parse registry.insecure: {other:?}")));
            }
        };
        let repository = self.registries.repository(&reference, group, Access::Pull, insecure);
        let provider = repository.provider();
        let mut caches = read_cache(&RegistryImage(repository)).await?;
        let key = format!("{}{}", annotation::DISTRIBUTION_SOURCE, reference.domain());
        for layer in caches.iter_mut().flat_map(|cache| &mut cache.layers) {
            layer.annotations.insert(key.clone(), reference.path().to_owned());
        }
        Ok(RemoteCache { caches, provider })
    }
}
