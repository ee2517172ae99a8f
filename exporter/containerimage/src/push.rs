use std::collections::BTreeMap;

use async_trait::async_trait;
use buildkit_errdefs::{Classify, Kind};
use buildkit_exporter::{Error, ExportContext, Finalize};
use buildkit_session::SessionGroup;
use buildkit_util_ocispec::annotation::DISTRIBUTION_SOURCE;
use buildkit_util_progress::LogStream;
use buildkit_util_push::{PushOptions, push};
use buildkit_util_reference::Reference;
use buildkit_util_resolver::{Access, Registries};

use crate::Committed;

/// A name as people wrote it, and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    text: String,
    name: Reference,
    by_digest: bool,
}

impl Target {
    /// The names in a list with commas. A name with a digest and no tag is pushed without one.
    ///
    /// # Errors
    /// When one is no name, or has a tag and is to be pushed without one.
    pub(crate) fn parse(names: &str, by_digest: bool) -> Result<Vec<Self>, Error> {
        let parse = |text: &str| {
            let fail =
                |reason: &dyn std::fmt::Display| Error::Invalid(format!("failed to push {text}: {reason}"));
            let name = Reference::parse(text).map_err(|error| fail(&error))?;
            if by_digest && (name.tag().is_some() || name.digest().is_some()) {
                return Err(fail(&format!("can't push tagged ref {name} by digest")));
            }
            let by_digest = by_digest || (name.digest().is_some() && name.tag().is_none());
            let name = if by_digest { name.repository() } else { name };
            Ok(Self { text: text.to_owned(), name, by_digest })
        };
        names.split(',').filter(|_| !names.is_empty()).map(parse).collect()
    }
}

/// Pushes an image once all exporters have succeeded.
pub(crate) struct Push {
    pub(crate) registries: Registries,
    pub(crate) image: Committed,
    pub(crate) targets: Vec<Target>,
    pub(crate) insecure: bool,
}

#[async_trait]
impl Finalize for Push {
    async fn finalize(self: Box<Self>, cx: &ExportContext) -> Result<BTreeMap<String, String>, Error> {
        let pushed = async {
            for target in &self.targets {
                self.push(cx, target).await?;
            }
            Ok(BTreeMap::new())
        };
        tokio::select! {
            pushed = pushed => pushed,
            () = cx.cancelled.cancelled() => Err(Error::Other {
                action: "failed to push".to_owned(),
                kind: Kind::Cancelled,
                source: "context canceled".into(),
            }),
        }
    }
}

impl Push {
    async fn push(&self, cx: &ExportContext, target: &Target) -> Result<(), Error> {
        let sessions = SessionGroup::new([cx.session_id.clone()]);
        let repository = self.registries.repository(&target.name, &sessions, Access::Push, self.insecure);
        let repository = repository.telling_retries(cx.progress.output(LogStream::Stderr));
        let options = PushOptions { by_digest: target.by_digest, annotations: self.sources() };
        let image = &self.image;
        let pushed = push(&repository, &image.descriptor, image.provider(), &options, &cx.progress).await;
        pushed.map_err(|error| Error::Other {
            action: format!("failed to push {}", target.text),
            kind: error.kind(),
            source: error.into(),
        })
    }

    /// Where layers came from: what a registry has in another repository is not sent to it again.
    fn sources(&self) -> BTreeMap<buildkit_util_cachedigest::Digest, BTreeMap<String, String>> {
        let layers = self.image.images.iter().flat_map(|image| &image.layers);
        let known = layers.filter_map(|layer| self.image.layer(&layer.digest));
        let sources = known.map(|layer| {
            let annotations = layer.annotations.iter();
            let sources = annotations.filter(|(key, _)| key.starts_with(DISTRIBUTION_SOURCE));
            (layer.digest.clone(), sources.map(|(key, value)| (key.clone(), value.clone())).collect())
        });
        sources.filter(|(_, sources): &(_, BTreeMap<_, _>)| !sources.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_before_anything_is_made() {
        let parse = |names: &str, by_digest| {
            let targets = Target::parse(names, by_digest).map_err(|error| error.to_string())?;
            let text = |target: Target| format!("{} {}", target.name, target.by_digest);
            Ok::<_, String>(targets.into_iter().map(text).collect::<Vec<_>>())
        };
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(parse("", false), Ok(Vec::new()));
        assert_eq!(
            parse(&format!("a,localhost:5000/b:c,d@{digest},e:f@{digest}"), false),
            Ok(vec![
                "docker.io/library/a false".to_owned(),
                "localhost:5000/b:c false".to_owned(),
                "docker.io/library/d true".to_owned(),
                format!("docker.io/library/e:f@{digest} false"),
            ])
        );
        assert_eq!(parse("r/a", true), Ok(vec!["docker.io/r/a true".to_owned()]));
        assert_eq!(
            parse("r/a:b", true).unwrap_err(),
            "failed to push r/a:b: can't push tagged ref docker.io/r/a:b by digest"
        );
        assert_eq!(parse("a,*", false).unwrap_err(), "failed to push *: invalid reference format");
    }
}
