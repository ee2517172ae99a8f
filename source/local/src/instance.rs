use async_trait::async_trait;
use buildkit_cache::{CacheManager, ImmutableRef};
use buildkit_cache_contenthash::ContentHasher;
use buildkit_errdefs::Kind;
use buildkit_session::LOOKUP_WAIT;
use buildkit_source::{Error, SourceContext, SourceInstance, SourceKey};

use crate::identifier::Options;
use crate::transfer::{Failure, Transfer};

/// One directory of a client.
pub(crate) struct LocalInstance {
    pub(crate) cache: CacheManager,
    pub(crate) checksums: ContentHasher,
    pub(crate) options: Options,
}

#[async_trait]
impl SourceInstance for LocalInstance {
    async fn cache_key(&self, cx: &SourceContext, _index: usize) -> Result<SourceKey, Error> {
        let ids = cx.group.ids();
        let session = match (self.options.session.as_str(), ids.first()) {
            ("", Some(first)) => first.as_str(),
            ("", None) => {
                let message = "could not access local files without session";
                return Err(Error::Invalid(message.to_owned()));
            }
            (named, _) => named,
        };
        let digest = self.options.digest(session).to_string();
        let key = format!("session:{}:{digest}", self.options.name);
        Ok(SourceKey { key, pin: digest, done: true })
    }

    async fn snapshot(&self, cx: &SourceContext) -> Result<Option<ImmutableRef>, Error> {
        tokio::select! {
            result = self.find_and_transfer(cx) => result.map(Some).map_err(|failure| self.error(failure)),
            () = cx.cancelled.cancelled() => Err(Error::Cancelled),
        }
    }
}

impl LocalInstance {
    async fn find_and_transfer(&self, cx: &SourceContext) -> Result<ImmutableRef, Failure> {
        let transfer = Transfer {
            cache: &self.cache,
            checksums: &self.checksums,
            options: &self.options,
            progress: &cx.progress,
        };
        // The session that the source names may be gone, or have changed its mind, while another one
        // of the build has the same directory.
        if !self.options.session.is_empty()
            && let Ok(caller) = cx.sessions.get(&self.options.session, LOOKUP_WAIT).await
        {
            match transfer.run(&caller).await {
                Err(Failure::Transfer(buildkit_session_filesync::Error::NoAccess(reason)))
                    if !cx.group.ids().is_empty() =>
                {
                    tracing::debug!(%reason, "directory not shared by its session, trying others");
                }
                result => return result,
            }
        }
        let transfer = &transfer;
        cx.sessions.any(&cx.group, |caller| async move { transfer.run(&caller).await }).await
    }

    fn error(&self, failure: Failure) -> Error {
        use buildkit_session_filesync::Error as Sync;
        let kind = failure.kind();
        match failure {
            // What the client said has the form that the original's clients show.
            Failure::Transfer(Sync::NoAccess(reason)) => {
                Error::NotFound(format!("rpc error: code = NotFound desc = {reason}"))
            }
            Failure::Transfer(Sync::Client { kind, message }) if kind == Kind::Unknown => {
                Error::Client { kind, message: format!("rpc error: code = Unknown desc = {message}") }
            }
            failure => Error::Other {
                action: format!("failed to load local source {}", self.options.name),
                kind,
                source: failure.into_source(),
            },
        }
    }
}
