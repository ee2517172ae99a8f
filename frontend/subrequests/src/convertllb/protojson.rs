//! Protobuf's JSON of graphs.
//!
//! Other than Go's own JSON of the same messages (`buildkit_solver_pb::json`): names are those of the definition
//! in camel case, 64-bit numbers are texts, enums are names, and oneofs are members of their message.

use buildkit_solver_pb::{self as pb, map::to_map};
use buildkit_util_gojson::{Array, Base64, Object, Value};
use bytes::Bytes;

/// Something that a field can hold.
pub(crate) trait ProtoJson: Sized {
    /// Appends the JSON form.
    fn write(&self, out: &mut String);

    /// Whether a field with this value is left out.
    fn is_default(&self) -> bool {
        false
    }

    /// Appends the JSON form of several, which for entries of a map is an object.
    fn write_list(list: &[Self], out: &mut String) {
        let mut array = Array::new(out);
        for item in list {
            array.item_with(|out| item.write(out));
        }
    }
}

fn member<T: ProtoJson>(object: &mut Object<'_>, name: &str, value: &T) {
    if !value.is_default() {
        object.field_with(name, |out| value.write(out));
    }
}

macro_rules! scalars {
    ($($type:ty, $value:ident => $json:expr, $default:expr;)*) => {$(
        impl ProtoJson for $type {
            fn write(&self, out: &mut String) {
                let $value = self;
                $json.write_json(out);
            }

            fn is_default(&self) -> bool {
                let $value = self;
                $default
            }
        }
    )*};
}
scalars! {
    i32, n => n, *n == 0;
    u32, n => n, *n == 0;
    i64, n => n.to_string(), *n == 0;
    u64, n => n.to_string(), *n == 0;
    bool, b => b, !b;
    String, text => text, text.is_empty();
    Bytes, bytes => Base64(bytes), bytes.is_empty();
}

impl<T: ProtoJson> ProtoJson for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }

    fn is_default(&self) -> bool {
        self.is_none()
    }
}

impl<T: ProtoJson> ProtoJson for Vec<T> {
    fn write(&self, out: &mut String) {
        T::write_list(self, out);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }
}

/// The number of an enum, as its name if it has one.
struct Named(i32, Option<&'static str>);

impl ProtoJson for Named {
    fn write(&self, out: &mut String) {
        match self.1 {
            Some(name) => name.write_json(out),
            None => self.0.write_json(out),
        }
    }

    fn is_default(&self) -> bool {
        self.0 == 0
    }
}

macro_rules! maps {
    ($($entry:ty),*) => {$(
        impl ProtoJson for $entry {
            fn write(&self, out: &mut String) {
                Self::write_list(std::slice::from_ref(self), out);
            }

            fn write_list(list: &[Self], out: &mut String) {
                let mut object = Object::new(out);
                for (key, value) in to_map(list.iter().cloned()) {
                    object.field_with(&key, |out| value.write(out));
                }
            }
        }
    )*};
}
maps!(
    pb::source_op::AttrsEntry,
    pb::build_op::AttrsEntry,
    pb::build_op::InputsEntry,
    pb::definition::MetadataEntry,
    pb::op_metadata::DescriptionEntry,
    pb::op_metadata::CapsEntry,
    pb::source::LocationsEntry
);

/// Messages whose JSON is their fields, in the order of the definition; `as` is the type of an enum.
macro_rules! messages {
    ($($message:ident { $($field:ident $name:literal $(as $enum:ident)?),* })*) => {$(
        impl ProtoJson for pb::$message {
            fn write(&self, out: &mut String) {
                let mut object = Object::new(out);
                $(messages!(@member object, self.$field, $name $(, $enum)?);)*
            }
        }
    )*};
    (@member $object:ident, $value:expr, $name:literal) => { member(&mut $object, $name, &$value) };
    (@member $object:ident, $value:expr, $name:literal, $enum:ident) => {
        let name = pb::$enum::try_from($value).ok().map(|value| value.as_str_name());
        member(&mut $object, $name, &Named($value, name));
    };
}

messages! {
    Platform {
        architecture "Architecture", os "OS", variant "Variant", os_version "OSVersion",
        os_features "OSFeatures"
    }
    Input { digest "digest", index "index" }
    WorkerConstraints { filter "filter" }
    ExecOp {
        meta "meta", mounts "mounts", network "network" as NetMode, security "security" as SecurityMode,
        secretenv "secretenv", cdi_devices "cdiDevices"
    }
    Meta {
        args "args", env "env", cwd "cwd", user "user", proxy_env "proxyEnv", extra_hosts "extraHosts",
        hostname "hostname", ulimit "ulimit", cgroup_parent "cgroupParent",
        remove_mount_stubs_recursive "removeMountStubsRecursive", valid_exit_codes "validExitCodes"
    }
    ProxyEnv {
        http_proxy "httpProxy", https_proxy "httpsProxy", ftp_proxy "ftpProxy", no_proxy "noProxy",
        all_proxy "allProxy"
    }
    HostIp { host "Host", ip "IP" }
    Ulimit { name "Name", soft "Soft", hard "Hard" }
    SecretEnv { id "ID", name "name", optional "optional" }
    CdiDevice { name "name", optional "optional" }
    Mount {
        input "input", selector "selector", dest "dest", output "output", readonly "readonly",
        mount_type "mountType" as MountType, tmpfs_opt "TmpfsOpt", cache_opt "cacheOpt",
        secret_opt "secretOpt", ssh_opt "SSHOpt", result_id "resultID",
        content_cache "contentCache" as MountContentCache
    }
    TmpfsOpt { size "size" }
    CacheOpt { id "ID", sharing "sharing" as CacheSharingOpt }
    SecretOpt { id "ID", uid "uid", gid "gid", mode "mode", optional "optional" }
    SshOpt { id "ID", uid "uid", gid "gid", mode "mode", optional "optional" }
    SourceOp { identifier "identifier", attrs "attrs" }
    BuildOp { builder "builder", inputs "inputs", def "def", attrs "attrs" }
    BuildInput { input "input" }
    MergeOp { inputs "inputs" }
    MergeInput { input "input" }
    DiffOp { lower "lower", upper "upper" }
    LowerDiffInput { input "input" }
    UpperDiffInput { input "input" }
    PassthroughOp { id "id", outputs "outputs" }
    FileOp { actions "actions" }
    FileActionCopy {
        src "src", dest "dest", owner "owner", mode "mode", follow_symlink "followSymlink",
        dir_copy_contents "dirCopyContents",
        attempt_unpack_docker_compatibility "attemptUnpackDockerCompatibility",
        create_dest_path "createDestPath", allow_wildcard "allowWildcard",
        allow_empty_wildcard "allowEmptyWildcard", timestamp "timestamp",
        include_patterns "includePatterns", exclude_patterns "excludePatterns",
        always_replace_existing_dest_paths "alwaysReplaceExistingDestPaths", mode_str "modeStr",
        required_paths "requiredPaths"
    }
    FileActionMkFile { path "path", mode "mode", data "data", owner "owner", timestamp "timestamp" }
    FileActionMkDir {
        path "path", mode "mode", make_parents "makeParents", owner "owner", timestamp "timestamp"
    }
    FileActionRm { path "path", allow_not_found "allowNotFound", allow_wildcard "allowWildcard" }
    FileActionSymlink { oldpath "oldpath", newpath "newpath", owner "owner", timestamp "timestamp" }
    ChownOpt { user "user", group "group" }
    NamedUserOpt { name "name", input "input" }
    Definition { def "def", metadata "metadata", source "Source" }
    OpMetadata {
        ignore_cache "ignoreCache", description "description", export_cache "exportCache", caps "caps",
        progress_group "progressGroup", linux_resources "linuxResources"
    }
    ExportCache { value "Value" }
    ProgressGroup { id "id", name "name", weak "weak" }
    LinuxResources {
        memory "memory", memory_swap "memorySwap", cpu_shares "cpuShares", cpu_period "cpuPeriod",
        cpu_quota "cpuQuota", cpuset_cpus "cpusetCpus", cpuset_mems "cpusetMems"
    }
    Source { locations "locations", infos "infos" }
    SourceInfo { filename "filename", data "data", definition "definition", language "language" }
    Locations { locations "locations" }
    Location { source_index "sourceIndex", ranges "ranges" }
    Range { start "start", end "end" }
    Position { line "line", character "character" }
}

impl ProtoJson for pb::Op {
    fn write(&self, out: &mut String) {
        use pb::op::Op;

        let mut object = Object::new(out);
        member(&mut object, "inputs", &self.inputs);
        match &self.op {
            Some(Op::Exec(op)) => member(&mut object, "exec", op),
            Some(Op::Source(op)) => member(&mut object, "source", op),
            Some(Op::File(op)) => member(&mut object, "file", op),
            Some(Op::Build(op)) => member(&mut object, "build", op),
            Some(Op::Merge(op)) => member(&mut object, "merge", op),
            Some(Op::Diff(op)) => member(&mut object, "diff", op),
            Some(Op::Passthrough(op)) => member(&mut object, "passthrough", op),
            None => {}
        }
        member(&mut object, "platform", &self.platform);
        member(&mut object, "constraints", &self.constraints);
    }
}

impl ProtoJson for pb::FileAction {
    fn write(&self, out: &mut String) {
        use pb::file_action::Action;

        let mut object = Object::new(out);
        member(&mut object, "input", &self.input);
        member(&mut object, "secondaryInput", &self.secondary_input);
        member(&mut object, "output", &self.output);
        match &self.action {
            Some(Action::Copy(action)) => member(&mut object, "copy", action),
            Some(Action::Mkfile(action)) => member(&mut object, "mkfile", action),
            Some(Action::Mkdir(action)) => member(&mut object, "mkdir", action),
            Some(Action::Rm(action)) => member(&mut object, "rm", action),
            Some(Action::Symlink(action)) => member(&mut object, "symlink", action),
            None => {}
        }
    }
}

impl ProtoJson for pb::UserOpt {
    fn write(&self, out: &mut String) {
        use pb::user_opt::User;

        let mut object = Object::new(out);
        match &self.user {
            Some(User::ByName(name)) => member(&mut object, "byName", name),
            // A member of a oneof is there when it is 0, too.
            Some(User::ById(id)) => {
                object.field_with("byID", |out| id.write(out));
            }
            None => {}
        }
    }
}
