//! Capabilities of LLB and of what surrounds it.
//!
//! An op's metadata lists those that it needs, and a daemon advertises those that it has.

use std::sync::LazyLock;

use buildkit_util_apicaps::{Cap, CapList, Status};

macro_rules! ids {
    ($($name:ident = $id:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: &str = $id;)*
        const ALL: &[&str] = &[$($name),*];
    };
}

ids! {
    SOURCE_IMAGE = "source.image", "Images of a registry.";
    SOURCE_IMAGE_RESOLVE_MODE = "source.image.resolvemode", "Choosing between a local and a remote image.";
    SOURCE_IMAGE_LAYER_LIMIT = "source.image.layerlimit", "The lowest layers of an image only.";
    SOURCE_IMAGE_CHECKSUM = "source.image.checksum", "An image that must have a given digest.";

    SOURCE_LOCAL = "source.local", "Directories of the client.";
    SOURCE_LOCAL_UNIQUE = "source.local.unique", "A name that keeps two transfers of one directory apart.";
    SOURCE_LOCAL_SESSION_ID = "source.local.sessionid", "Directories of another session.";
    SOURCE_LOCAL_INCLUDE_PATTERNS = "source.local.includepatterns", "Sending matching files only.";
    SOURCE_LOCAL_FOLLOW_PATHS = "source.local.followpaths", "Sending what symbolic links lead to.";
    SOURCE_LOCAL_EXCLUDE_PATTERNS = "source.local.excludepatterns", "Not sending matching files.";
    SOURCE_LOCAL_SHARED_KEY_HINT = "source.local.sharedkeyhint", "Transfers that may build on each other.";
    SOURCE_LOCAL_DIFFER = "source.local.differ", "Choosing how changed files are found.";
    SOURCE_METADATA_TRANSFER = "source.local.metadatatransfer", "Sending metadata without contents.";

    SOURCE_GIT = "source.git", "Git repositories.";
    SOURCE_GIT_KEEP_DIR = "source.git.keepgitdir", "Keeping the `.git` directory.";
    SOURCE_GIT_FULL_URL = "source.git.fullurl", "The repository's address as an attribute.";
    SOURCE_GIT_HTTP_AUTH = "source.git.httpauth", "Secrets for git over HTTP.";
    SOURCE_GIT_KNOWN_SSH_HOSTS = "source.git.knownsshhosts", "Host keys for git over SSH.";
    SOURCE_GIT_MOUNT_SSH_SOCK = "source.git.mountsshsock", "The client's SSH agent for git.";
    SOURCE_GIT_SUBDIR = "source.git.subdir", "One directory of a repository.";
    SOURCE_GIT_CHECKSUM = "source.git.checksum", "A commit that must have a given hash.";
    SOURCE_GIT_SKIP_SUBMODULES = "source.git.skipsubmodules", "Leaving submodules out.";
    SOURCE_GIT_SIGNATURE_VERIFY = "source.git.signatureverify", "A commit or tag that must be signed.";
    SOURCE_GIT_MTIME = "source.git.mtime", "Choosing the files' times.";
    SOURCE_GIT_FETCH_BY_COMMIT = "source.git.fetchbycommit", "Fetching a commit that no ref leads to.";
    SOURCE_GIT_BUNDLE = "source.git.bundle", "Reading from a git bundle.";
    SOURCE_GIT_CHECKOUT_BUNDLE = "source.git.checkoutbundle", "A git bundle as the result.";

    SOURCE_HTTP = "source.http", "Files of the web.";
    SOURCE_HTTP_AUTH = "source.http.auth", "A secret for the request's authorization.";
    SOURCE_HTTP_CHECKSUM = "source.http.checksum", "A file that must have a given digest.";
    SOURCE_HTTP_PERM = "source.http.perm", "Choosing the file's permissions.";
    SOURCE_HTTP_UID_GID = "soruce.http.uidgid", "Choosing the file's owner; the id really is spelt so.";
    SOURCE_HTTP_HEADER = "source.http.header", "Headers of the request.";
    SOURCE_HTTP_SIGNATURE_VERIFY = "source.http.signatureverify", "A file that must be signed.";

    SOURCE_IMAGE_BLOB = "source.imageblob", "One blob of a registry.";
    SOURCE_OCI_LAYOUT = "source.ocilayout", "Images of a store of the client.";
    BUILD_OP_LLB_FILE_NAME = "source.buildop.llbfilename", "Choosing the file that a build op reads.";

    EXEC_META_BASE = "exec.meta.base", "Running a process.";
    EXEC_META_CGROUP_PARENT = "exec.meta.cgroup.parent", "Choosing the parent cgroup.";
    EXEC_META_NETWORK = "exec.meta.network", "Choosing the network mode.";
    EXEC_META_NETWORK_PROXY = "exec.meta.network.proxy", "The proxy network.";
    EXEC_META_PROXY = "exec.meta.proxyenv", "Proxy variables outside of the cache key.";
    EXEC_META_SECURITY = "exec.meta.security", "Choosing the security mode.";
    EXEC_META_SECURITY_DEVICE_WHITELIST_V1 = "exec.meta.security.devices.v1", "Device nodes in insecure mode.";
    EXEC_META_SETS_DEFAULT_PATH = "exec.meta.setsdefaultpath", "The daemon sets `PATH` where it is missing.";
    EXEC_META_ULIMIT = "exec.meta.ulimit", "Resource limits of the process.";
    EXEC_META_CDI = "exec.meta.cdi", "Devices by their CDI names.";
    EXEC_META_REMOVE_MOUNT_STUBS_RECURSIVE = "exec.meta.removemountstubs.recursive", "Removing all directories made for mounts; never advertised.";
    EXEC_META_LINUX_RESOURCES = "exec.meta.linux.resources", "Memory and CPU of one step.";
    EXEC_MOUNT_BIND = "exec.mount.bind", "Mounting results.";
    EXEC_MOUNT_BIND_READ_WRITE_NO_OUTPUT = "exec.mount.bind.readwrite-nooutput", "Writable mounts whose changes are dropped.";
    EXEC_MOUNT_CACHE = "exec.mount.cache", "Directories that outlive a build.";
    EXEC_MOUNT_CACHE_SHARING = "exec.mount.cache.sharing", "Choosing how such directories are shared.";
    EXEC_MOUNT_SELECTOR = "exec.mount.selector", "Mounting a part of a result.";
    EXEC_MOUNT_TMPFS = "exec.mount.tmpfs", "Memory file systems.";
    EXEC_MOUNT_TMPFS_SIZE = "exec.mount.tmpfs.size", "Their sizes.";
    EXEC_MOUNT_SECRET = "exec.mount.secret", "Secrets as files.";
    EXEC_MOUNT_SSH = "exec.mount.ssh", "Sockets of SSH agents.";
    EXEC_MOUNT_CONTENT_CACHE = "exec.mount.cache.content", "Choosing whether a mount is looked up by content.";
    EXEC_CGROUPS_MOUNTED = "exec.cgroup", "Cgroups are visible to the process.";
    EXEC_SECRET_ENV = "exec.secretenv", "Secrets in the environment.";
    EXEC_VALID_EXIT_CODE = "exec.validexitcode", "Choosing the exit codes that are success.";

    FILE_BASE = "file.base", "Changing files without a process.";
    FILE_RM_WILDCARD = "file.rm.wildcard", "Removing what a pattern matches.";
    FILE_COPY_INCLUDE_EXCLUDE_PATTERNS = "file.copy.includeexcludepatterns", "Copying matching files only.";
    FILE_COPY_REQUIRED_PATHS = "file.copy.requiredpaths", "Files that a copy must find.";
    FILE_RM_NO_FOLLOW_SYMLINK = "file.rm.nofollowsymlink", "Removing links, not what they lead to.";
    FILE_COPY_ALWAYS_REPLACE_EXISTING_DEST_PATHS = "file.copy.alwaysreplaceexistingdestpaths", "Replacing what is in a copy's way.";
    FILE_COPY_MODE_STRING_FORMAT = "file.copy.modestring", "Symbolic modes; never advertised.";
    FILE_SYMLINK_CREATE = "file.symlink.create", "Making symbolic links.";

    CONSTRAINTS = "constraints", "Choosing the worker.";
    PLATFORM = "platform", "Choosing the platform.";

    META_IGNORE_CACHE = "meta.ignorecache", "Running a step whatever the cache has.";
    META_DESCRIPTION = "meta.description", "Descriptions of steps.";
    META_EXPORT_CACHE = "meta.exportcache", "Choosing what a cache export holds.";

    REMOTE_CACHE_GHA = "cache.gha", "Cache in GitHub Actions.";
    REMOTE_CACHE_S3 = "cache.s3", "Cache in S3.";
    REMOTE_CACHE_AZ_BLOB = "cache.azblob", "Cache in Azure blobs.";

    MERGE_OP = "mergeop", "Laying results over each other.";
    DIFF_OP = "diffop", "The difference of two results.";
    PASSTHROUGH_OP = "passthroughop", "A node that hands on its inputs.";

    ANNOTATIONS = "exporter.image.annotations", "Annotations of images.";
    ATTESTATIONS = "exporter.image.attestations", "Attestations of images.";
    SOURCE_DATE_EPOCH = "exporter.sourcedateepoch", "Choosing the time that a result claims.";
    MULTIPLE_EXPORTERS = "exporter.multiple", "Several exporters in a build.";
    SESSION_EXPORTER = "exporter.session", "Exporters that the client names at the end.";

    SOURCE_POLICY = "source.policy", "Rules about sources.";
    SOURCE_POLICY_SESSION = "source.policy.session", "Decisions of the client about sources.";
    GC_FREE_SPACE_FILTER = "gc.freespacefilter", "Pruning by free and used space.";
    HISTORY_FILTERS = "history.filter", "Filters of the build history.";
}

/// Known ids that no daemon has ever advertised.
const UNREGISTERED: &[&str] = &[EXEC_META_REMOVE_MOUNT_STUBS_RECURSIVE, FILE_COPY_MODE_STRING_FORMAT];

/// All of them, as far as the protocol goes.
///
/// A daemon advertises the part that it can keep: see [`CapList::filtered`].
pub fn list() -> &'static CapList {
    static LIST: LazyLock<CapList> = LazyLock::new(|| {
        CapList::new(ALL.iter().filter(|id| !UNREGISTERED.contains(id)).map(|id| match *id {
            FILE_BASE => Cap {
                status: Status::Prerelease,
                supported_hint: &[("docker", "Docker v19.03"), ("buildkit", "BuildKit v0.5.0")],
                ..Cap::new(FILE_BASE)
            },
            SOURCE_DATE_EPOCH => Cap::new(SOURCE_DATE_EPOCH).named("source date epoch"),
            id => Cap::new(id),
        }))
    });
    &LIST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_all_but_the_unregistered() {
        assert_eq!(ALL.len(), 90);
        assert_eq!(list().all().len(), 88);
        let set = list().cap_set(list().all());
        for id in ALL {
            assert_eq!(set.supports(id).is_ok(), !UNREGISTERED.contains(id), "{id}");
        }
    }

    #[test]
    fn an_old_daemon_gets_a_hint() {
        assert_eq!(
            list().cap_set([]).supports(FILE_BASE).unwrap_err().to_string(),
            "requested prerelease feature file.base  is not supported by build server \
             (added in BuildKit v0.5.0), please update buildkit"
        );
    }
}
