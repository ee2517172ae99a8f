use std::sync::Arc;

use async_trait::async_trait;
use buildkit_cache::CacheManager;
use buildkit_client_llb_sourceresolver::MetaRequest;
use buildkit_session::SessionGroup;
use buildkit_session_content::SessionContent;
use buildkit_solver_pb::attr;
use buildkit_source::{Error, Identifier, Source, SourceContext, SourceInstance};
use buildkit_util_cachedigest::Digest;
use buildkit_util_ocispec::Descriptor;
use buildkit_util_pull::{FoundImage, StoreImage};
use buildkit_util_reference::Reference;

use crate::identifier::{Options, invalid, layer_limit};
use crate::instance::{Instance, Opened, Place};

/// Images of layouts that clients serve: `oci-layout`.
pub struct LayoutSource {
    cache: CacheManager,
}

impl LayoutSource {
    /// Images that are kept in `cache`.
    pub fn new(cache: CacheManager) -> Self {
        Self { cache }
    }
}

impl Source for LayoutSource {
    fn schemes(&self) -> &[&'static str] {
        &["oci-layout"]
    }

    fn resolve(&self, identifier: &Identifier) -> Result<Arc<dyn SourceInstance>, Error> {
        let text = &identifier.reference;
        let reference = Reference::parse(text)
            .map_err(|error| invalid(format!("invalid image reference {text:?}: {error}")))?;
        let Some(digest) = reference.digest().cloned() else {
            return Err(invalid(format!("reference {text:?} must have digest")));
        };
        let mut options = Options::new(identifier.platform.as_ref());
        let (mut session, mut store) = (String::new(), String::new());
        for (key, value) in &identifier.attrs {
            match key.as_str() {
                attr::OCI_LAYOUT_SESSION_ID => session.clone_from(value),
                attr::OCI_LAYOUT_STORE_ID => store.clone_from(value),
                attr::OCI_LAYOUT_LAYER_LIMIT => options.layer_limit = Some(layer_limit(value)?),
                _ => {}
            }
        }
        let place = LayoutPlace { name: text.clone(), digest, session, store };
        Ok(Arc::new(Instance::new(self.cache.clone(), place, options)))
    }
}

struct LayoutPlace {
    name: String,
    digest: Digest,
    /// Empty is any of the build.
    session: String,
    store: String,
}

#[async_trait]
impl Place for LayoutPlace {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(&self, cx: &SourceContext, request: Option<&MetaRequest>) -> Opened {
        let asked = request.and_then(|request| request.layout.as_ref());
        let or_own =
            |asked: Option<&String>, own: &String| asked.filter(|id| !id.is_empty()).unwrap_or(own).clone();
        let session = or_own(asked.map(|store| &store.session_id), &self.session);
        let store = or_own(asked.map(|store| &store.store_id), &self.store);
        let group = match session.is_empty() {
            true => cx.group.clone(),
            false => SessionGroup::new([session]),
        };
        let content = SessionContent::of_group(cx.sessions.clone(), group, format!("oci:{store}"));
        Opened {
            documents: Box::new(StoreImage { content: content.clone(), digest: self.digest.clone() }),
            layers: Arc::new(content),
        }
    }

    fn known(&self) -> Option<Descriptor> {
        None
    }

    fn learned(&self, _image: &FoundImage) {}

    fn annotate(&self, _layer: &mut Descriptor) {}
}
