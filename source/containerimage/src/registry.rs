use std::sync::Arc;

use buildkit_cache::CacheManager;
use buildkit_client_llb_sourceresolver::MetaRequest;
use buildkit_source::{Error, Identifier, Source, SourceContext, SourceInstance};
use buildkit_util_ocispec::{Descriptor, Document, annotation};
use buildkit_util_progress::LogStream;
use buildkit_util_pull::{FoundImage, RegistryImage};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries};

use crate::identifier::{invalid, registry_options};
use crate::instance::{Instance, Opened, Place};
use crate::origins::Origins;

/// Images of registries: `docker-image`.
pub struct RegistrySource {
    cache: CacheManager,
    registries: Registries,
    origins: Origins,
}

impl RegistrySource {
    /// Images that are kept in `cache`.
    pub fn new(cache: CacheManager, registries: Registries) -> Self {
        let origins = Origins::new(cache.metadata_store().clone());
        Self { cache, registries, origins }
    }
}

impl Source for RegistrySource {
    fn schemes(&self) -> &[&'static str] {
        &["docker-image"]
    }

    fn resolve(&self, identifier: &Identifier) -> Result<Arc<dyn SourceInstance>, Error> {
        let text = &identifier.reference;
        let reference = Reference::parse(text)
            .map_err(|error| invalid(format!("invalid image reference {text:?}: {error}")))?;
        if reference.tag().is_none() && reference.digest().is_none() {
            return Err(invalid(format!("invalid image reference {text:?}: object required")));
        }
        let options = registry_options(identifier.platform.as_ref(), &identifier.attrs)?;
        let place = RegistryPlace {
            cache: self.cache.clone(),
            registries: self.registries.clone(),
            origins: self.origins.clone(),
            reference,
        };
        Ok(Arc::new(Instance::new(self.cache.clone(), place, options)))
    }

    fn canonical(&self, _scheme: &str, reference: &str) -> Option<String> {
        Some(Reference::parse(reference).ok()?.to_string())
    }
}

struct RegistryPlace {
    cache: CacheManager,
    registries: Registries,
    origins: Origins,
    reference: Reference,
}

impl Place for RegistryPlace {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn open(&self, cx: &SourceContext, _request: Option<&MetaRequest>) -> Opened {
        let repository = self.registries.repository(&self.reference, &cx.group, Access::Pull, false);
        let repository = repository.telling_retries(cx.progress.output(LogStream::Stderr));
        let layers = repository.provider();
        Opened { documents: Box::new(RegistryImage(repository)), layers }
    }

    fn known(&self) -> Option<Descriptor> {
        let digest = self.reference.digest()?;
        if !self.origins.has(digest, &self.reference.name()) {
            return None;
        }
        let content = self.cache.content();
        let mut bytes = Vec::new();
        // A document, which is small.
        std::io::Read::read_to_end(&mut content.open(digest, None).ok()?, &mut bytes).ok()?;
        let media_type = Document::detect(&bytes)?;
        Some(Descriptor::new(media_type, digest.clone(), bytes.len() as u64))
    }

    fn learned(&self, image: &FoundImage) {
        self.origins.add(&image.root.digest, &self.reference.name());
    }

    fn annotate(&self, layer: &mut Descriptor) {
        let key = format!("{}{}", annotation::DISTRIBUTION_SOURCE, self.reference.domain());
        layer.annotations.insert(key, self.reference.path().to_owned());
    }
}
