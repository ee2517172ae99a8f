//! Capabilities of the bridge between frontends and builds.

use std::sync::LazyLock;

use buildkit_util_apicaps::{Cap, CapList};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $id;)*
    };
}

ids! {
    /// Solving a definition or another frontend.
    SOLVE_BASE = "solve.base";
    /// A result in the answer to a solve; for frontends of the first days.
    SOLVE_INLINE_RETURN = "solve.inlinereturn";
    /// Configurations of images.
    RESOLVE_IMAGE = "resolveimage";
    /// Choosing between a local and a remote image.
    RESOLVE_IMAGE_RESOLVE_MODE = "resolveimage.resolvemode";
    /// Reading a file of a result.
    READ_FILE = "readfile";
    /// Handing over the result.
    RETURN_RESULT = "return";
    /// Handing over a result of several parts.
    RETURN_MAP = "returnmap";
    /// Listing a directory of a result.
    READ_DIR = "readdir";
    /// Metadata of a file of a result.
    STAT_FILE = "statfile";
    /// Cache imports given with a solve.
    IMPORT_CACHES = "importcaches";
    /// References with their definitions on the wire.
    PROTO_REF_ARRAY = "proto.refarray";
    /// A result as the input of a further definition.
    REFERENCE_OUTPUT = "reference.output";
    /// Inputs that a frontend is called with.
    FRONTEND_INPUTS = "frontend.inputs";
    /// Metadata in the answer to a solve.
    GATEWAY_SOLVE_METADATA = "gateway.solve.metadata";
    /// Containers of a frontend.
    GATEWAY_EXEC = "gateway.exec";
    /// Lines for the hosts file of such a container.
    GATEWAY_EXEC_EXTRA_HOSTS = "gateway.exec.extrahosts";
    /// Secrets in the environment of such a container's process.
    GATEWAY_EXEC_SECRET_ENV = "gateway.exec.secretenv";
    /// Signals to such a container's process.
    GATEWAY_EXEC_SIGNALS = "gateway.exec.signals";
    /// Reading files of such a container.
    GATEWAY_EXEC_FILESYSTEM = "gateway.exec.filesystem";
    /// Frontends that state what they can do.
    FRONTEND_CAPS = "frontend.caps";
    /// A solve that runs at once.
    GATEWAY_EVALUATE_SOLVE = "gateway.solve.evaluate";
    /// Running a result that was left for later.
    GATEWAY_EVALUATE = "gateway.evaluate";
    /// Warnings of a frontend.
    GATEWAY_WARNINGS = "gateway.warnings";
    /// Attestations with a result.
    ATTESTATIONS = "reference.attestations";
    /// What a source is, without its content.
    SOURCE_META_RESOLVER = "source.metaresolver";
    /// Attestations of a source image.
    SOURCE_META_RESOLVER_IMAGE_ATTESTATIONS = "source.metaresolver.image.attestations";
    /// Checksums of one's own choice of a source from the web.
    SOURCE_META_RESOLVER_HTTP_CHECKSUM_REQUEST = "source.metaresolver.http.checksumrequest";
}

/// All of them, as far as the protocol goes.
///
/// A daemon advertises the part that it can keep: see [`CapList::filtered`].
pub fn list() -> &'static CapList {
    static LIST: LazyLock<CapList> = LazyLock::new(|| {
        CapList::new([
            Cap::new(SOLVE_BASE),
            Cap { deprecated: true, ..Cap::new(SOLVE_INLINE_RETURN).named("inline return from solve") },
            Cap::new(RESOLVE_IMAGE).named("resolve remote image config"),
            Cap::new(RESOLVE_IMAGE_RESOLVE_MODE).named("resolve remote image config with custom resolvemode"),
            Cap::new(READ_FILE).named("read static file"),
            Cap::new(RETURN_RESULT).named("return solve result"),
            Cap::new(RETURN_MAP).named("return reference map"),
            Cap::new(READ_DIR).named("read static directory"),
            Cap::new(STAT_FILE).named("stat a file"),
            Cap::new(IMPORT_CACHES).named("import caches"),
            Cap::new(PROTO_REF_ARRAY).named("wire format ref arrays"),
            Cap::new(REFERENCE_OUTPUT).named("reference output"),
            Cap::new(FRONTEND_INPUTS).named("frontend inputs"),
            Cap::new(GATEWAY_SOLVE_METADATA).named("gateway metadata"),
            Cap::new(GATEWAY_EXEC).named("gateway exec"),
            Cap::new(GATEWAY_EXEC_EXTRA_HOSTS).named("gateway exec extra-hosts"),
            Cap::new(GATEWAY_EXEC_SECRET_ENV).named("gateway exec secret env"),
            Cap::new(GATEWAY_EXEC_SIGNALS).named("gateway exec signals"),
            Cap::new(GATEWAY_EXEC_FILESYSTEM).named("gateway exec filesystem"),
            Cap::new(FRONTEND_CAPS).named("frontend capabilities"),
            Cap::new(GATEWAY_EVALUATE_SOLVE).named("gateway evaluate solve"),
            Cap::new(GATEWAY_EVALUATE).named("gateway evaluate"),
            Cap::new(GATEWAY_WARNINGS).named("logging warnings"),
            Cap::new(ATTESTATIONS).named("reference attestations"),
            Cap::new(SOURCE_META_RESOLVER).named("source meta resolver"),
            Cap::new(SOURCE_META_RESOLVER_IMAGE_ATTESTATIONS)
                .named("source meta resolver image attestations"),
            Cap::new(SOURCE_META_RESOLVER_HTTP_CHECKSUM_REQUEST)
                .named("source meta resolver http checksum request"),
        ])
    });
    &LIST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_and_usable() {
        assert_eq!(list().all().len(), 27);
        let set = list().cap_set(list().all());
        assert_eq!(set.supports(GATEWAY_EXEC), Ok(()));
        assert_eq!(
            list().cap_set([]).supports(READ_DIR).unwrap_err().to_string(),
            "requested experimental feature readdir (read static directory) is not supported by \
             build server, please update buildkit"
        );
    }
}
