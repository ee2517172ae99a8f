//! Keys, and where they are fixed the values, of the attributes of source and build ops.

macro_rules! keys {
    ($($name:ident = $key:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: &str = $key;)*
    };
}

keys! {
    GIT_KEEP_DIR = "git.keepgitdir", "`true` keeps the `.git` directory.";
    GIT_FULL_URL = "git.fullurl", "The repository's whole address.";
    GIT_AUTH_HEADER_SECRET = "git.authheadersecret", "Secret with the authorization header.";
    GIT_AUTH_TOKEN_SECRET = "git.authtokensecret", "Secret with a token.";
    GIT_KNOWN_SSH_HOSTS = "git.knownsshhosts", "Lines of a `known_hosts` file.";
    GIT_MOUNT_SSH_SOCK = "git.mountsshsock", "Id of the SSH agent to use.";
    GIT_CHECKSUM = "git.checksum", "Hash, or start of it, that the commit must have.";
    GIT_SKIP_SUBMODULES = "git.skipsubmodules", "`true` leaves submodules out.";
    GIT_MTIME = "git.mtime", "Which time files get.";
    GIT_FETCH_BY_COMMIT = "git.fetchbycommit", "`true` fetches the commit itself.";
    GIT_BUNDLE = "git.bundle", "Bundle to read from.";
    GIT_CHECKOUT_BUNDLE = "git.checkoutbundle", "`true` makes a bundle the result.";
    GIT_SIGNATURE_VERIFY_PUB_KEY = "git.sig.pubkey", "Key that must have signed.";
    GIT_SIGNATURE_VERIFY_REJECT_EXPIRED = "git.sig.rejectexpired", "`true` refuses expired keys.";
    GIT_SIGNATURE_VERIFY_REQUIRE_SIGNED_TAG = "git.sig.requiresignedtag", "`true` wants the tag signed.";
    GIT_SIGNATURE_VERIFY_IGNORE_SIGNED_TAG = "git.sig.ignoresignedtag", "`true` looks at the commit only.";

    LOCAL_SESSION_ID = "local.session", "Session that has the directory.";
    LOCAL_UNIQUE_ID = "local.unique", "Keeps transfers of one directory apart.";
    INCLUDE_PATTERNS = "local.includepattern", "JSON list of patterns to send.";
    FOLLOW_PATHS = "local.followpaths", "JSON list of paths whose links are followed.";
    EXCLUDE_PATTERNS = "local.excludepatterns", "JSON list of patterns not to send.";
    SHARED_KEY_HINT = "local.sharedkeyhint", "Transfers with one hint build on each other.";
    METADATA_TRANSFER = "local.metadatatransfer", "`true` sends metadata only.";
    METADATA_TRANSFER_EXCLUDE = "local.metadatatransferexclude", "JSON list of patterns sent whole all the same.";
    LOCAL_DIFFER = "local.differ", "How changed files are found.";
    LOCAL_DIFFER_NONE = "none", "Value of [`LOCAL_DIFFER`]: all files count as changed.";
    LOCAL_DIFFER_METADATA = "metadata", "Value of [`LOCAL_DIFFER`]: metadata is compared.";

    LLB_DEFINITION_FILENAME = "llbbuild.filename", "File that a build op reads.";

    HTTP_CHECKSUM = "http.checksum", "Digest that the file must have.";
    HTTP_FILENAME = "http.filename", "Name of the file.";
    HTTP_PERM = "http.perm", "Permissions of the file, octal.";
    HTTP_UID = "http.uid", "Owner of the file.";
    HTTP_GID = "http.gid", "Group of the file.";
    HTTP_AUTH_HEADER_SECRET = "http.authheadersecret", "Secret with the authorization header.";
    HTTP_HEADER_PREFIX = "http.header.", "Start of the keys of request headers.";
    HTTP_SIGNATURE_VERIFY_PUB_KEY = "http.sig.pubkey", "Key that must have signed.";
    HTTP_SIGNATURE_VERIFY = "http.sig.signature", "The signature.";

    IMAGE_RESOLVE_MODE = "image.resolvemode", "Whether a local image will do.";
    IMAGE_RESOLVE_MODE_DEFAULT = "default", "Value of [`IMAGE_RESOLVE_MODE`].";
    IMAGE_RESOLVE_MODE_FORCE_PULL = "pull", "Value of [`IMAGE_RESOLVE_MODE`].";
    IMAGE_RESOLVE_MODE_PREFER_LOCAL = "local", "Value of [`IMAGE_RESOLVE_MODE`].";
    IMAGE_RECORD_TYPE = "image.recordtype", "Type of the cache record of the image.";
    IMAGE_LAYER_LIMIT = "image.layerlimit", "Count of the layers to use.";
    IMAGE_CHECKSUM = "image.checksum", "Digest that the image must have.";

    OCI_LAYOUT_SESSION_ID = "oci.session", "Session that has the store.";
    OCI_LAYOUT_STORE_ID = "oci.store", "Name of the store.";
    OCI_LAYOUT_LAYER_LIMIT = "oci.layerlimit", "Count of the layers to use.";
}
