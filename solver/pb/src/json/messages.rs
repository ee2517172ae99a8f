use buildkit_util_gojson::Value;
use serde_json::Value as Json;

use super::FromJson;
use super::member::{Dialect, Member, Read, Writer, member, members, nested};
use crate::{FileAction, Op, UserOpt, file_action, op, user_opt};

/// What every message has in common.
macro_rules! message {
    ($message:ident) => {
        impl Value for $message {
            fn write_json(&self, out: &mut String) {
                self.write(out, Dialect::Go);
            }
        }

        impl FromJson for $message {
            const NAME: &'static str = concat!("pb.", stringify!($message));
        }
    };
}

/// Messages whose JSON is their fields, in the order of their numbers; `as` is the type of an enum.
macro_rules! messages {
    ($($message:ident { $($field:ident $name:literal $(as $enum:ident)?),* })*) => {
        $(
            impl Member for crate::$message {
                fn write(&self, out: &mut String, dialect: Dialect) {
                    let mut writer = Writer::new(out, dialect);
                    $(messages!(@field writer, self.$field, $name $(, $enum)?);)*
                }

                fn read(value: &Json) -> Read<Self> {
                    let members = members(value)?;
                    Ok(Self { $($field: member(members, $name)?),* })
                }

                fn missing() -> Read<Self> {
                    Ok(Self::default())
                }
            }
        )*

        const _: () = {
            use crate::{$($message),*};
            $(message!($message);)*
        };
    };
    (@field $writer:ident, $value:expr, $name:literal) => { $writer.field($name, &$value) };
    (@field $writer:ident, $value:expr, $name:literal, $enum:ident) => {
        let text = crate::$enum::try_from($value).ok().map(|value| value.as_str_name());
        $writer.number($name, $value, text)
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
        args "args", env "env", cwd "cwd", user "user", proxy_env "proxy_env",
        extra_hosts "extraHosts", hostname "hostname", ulimit "ulimit",
        cgroup_parent "cgroupParent", remove_mount_stubs_recursive "removeMountStubsRecursive",
        valid_exit_codes "validExitCodes"
    }
    ProxyEnv {
        http_proxy "http_proxy", https_proxy "https_proxy", ftp_proxy "ftp_proxy",
        no_proxy "no_proxy", all_proxy "all_proxy"
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
        include_patterns "include_patterns", exclude_patterns "exclude_patterns",
        always_replace_existing_dest_paths "alwaysReplaceExistingDestPaths",
        mode_str "modeStr", required_paths "required_paths"
    }
    FileActionMkFile {
        path "path", mode "mode", data "data", owner "owner", timestamp "timestamp"
    }
    FileActionMkDir {
        path "path", mode "mode", make_parents "makeParents", owner "owner",
        timestamp "timestamp"
    }
    FileActionRm {
        path "path", allow_not_found "allowNotFound", allow_wildcard "allowWildcard"
    }
    FileActionSymlink {
        oldpath "oldpath", newpath "newpath", owner "owner", timestamp "timestamp"
    }
    ChownOpt { user "user", group "group" }
    NamedUserOpt { name "name", input "input" }
    Definition { def "def", metadata "metadata", source "Source" }
    OpMetadata {
        ignore_cache "ignore_cache", description "description", export_cache "export_cache",
        caps "caps", progress_group "progress_group", linux_resources "linux_resources"
    }
    ExportCache { value "Value" }
    ProgressGroup { id "id", name "name", weak "weak" }
    LinuxResources {
        memory "memory", memory_swap "memorySwap", cpu_shares "cpuShares",
        cpu_period "cpuPeriod", cpu_quota "cpuQuota", cpuset_cpus "cpusetCpus",
        cpuset_mems "cpusetMems"
    }
    Source { locations "locations", infos "infos" }
    SourceInfo { filename "filename", data "data", definition "definition", language "language" }
    Locations { locations "locations" }
    Location { source_index "sourceIndex", ranges "ranges" }
    Range { start "start", end "end" }
    Position { line "line", character "character" }
}

message!(Op);
message!(FileAction);
message!(UserOpt);

impl Member for Op {
    fn write(&self, out: &mut String, dialect: Dialect) {
        let mut writer = Writer::new(out, dialect);
        writer.field("inputs", &self.inputs);
        writer.oneof("Op", |inner| {
            match &self.op {
                Some(op::Op::Exec(exec)) => inner.always("exec", exec),
                Some(op::Op::Source(source)) => inner.always("source", source),
                Some(op::Op::File(file)) => inner.always("file", file),
                Some(op::Op::Build(build)) => inner.always("build", build),
                Some(op::Op::Merge(merge)) => inner.always("merge", merge),
                Some(op::Op::Diff(diff)) => inner.always("diff", diff),
                Some(op::Op::Passthrough(pass)) => inner.always("passthrough", pass),
                None => inner,
            };
        });
        writer.field("platform", &self.platform).field("constraints", &self.constraints);
    }

    fn read(value: &Json) -> Read<Self> {
        let outer = members(value)?;
        let inner = nested(outer, "Op")?;
        let op = None
            .or(member::<Option<_>>(inner, "exec")?.map(op::Op::Exec))
            .or(member::<Option<_>>(inner, "source")?.map(op::Op::Source))
            .or(member::<Option<_>>(inner, "file")?.map(op::Op::File))
            .or(member::<Option<_>>(inner, "build")?.map(op::Op::Build))
            .or(member::<Option<_>>(inner, "merge")?.map(op::Op::Merge))
            .or(member::<Option<_>>(inner, "diff")?.map(op::Op::Diff))
            .or(member::<Option<_>>(inner, "passthrough")?.map(op::Op::Passthrough));
        Ok(Self {
            inputs: member(outer, "inputs")?,
            platform: member(outer, "platform")?,
            constraints: member(outer, "constraints")?,
            op,
        })
    }
}

/// In Go's form a symbolic link is nothing: upstream's writer does not know it, and cache keys hash the result.
impl Member for FileAction {
    fn write(&self, out: &mut String, dialect: Dialect) {
        use file_action::Action;

        let mut writer = Writer::new(out, dialect);
        let indexes =
            [("input", self.input), ("secondaryInput", self.secondary_input), ("output", self.output)];
        for (name, index) in &indexes {
            // Go's form has them in any case.
            match dialect {
                Dialect::Go => writer.always(name, index),
                Dialect::Protobuf => writer.field(name, index),
            };
        }
        writer.oneof("Action", |inner| {
            match &self.action {
                Some(Action::Copy(copy)) => inner.always("copy", copy),
                Some(Action::Mkfile(mkfile)) => inner.always("mkfile", mkfile),
                Some(Action::Mkdir(mkdir)) => inner.always("mkdir", mkdir),
                Some(Action::Rm(rm)) => inner.always("rm", rm),
                Some(Action::Symlink(symlink)) if dialect == Dialect::Protobuf => {
                    inner.always("symlink", symlink)
                }
                Some(Action::Symlink(_)) | None => inner,
            };
        });
    }

    fn read(value: &Json) -> Read<Self> {
        use file_action::Action;

        let outer = members(value)?;
        let inner = nested(outer, "Action")?;
        let action = None
            .or(member::<Option<_>>(inner, "copy")?.map(Action::Copy))
            .or(member::<Option<_>>(inner, "mkfile")?.map(Action::Mkfile))
            .or(member::<Option<_>>(inner, "mkdir")?.map(Action::Mkdir))
            .or(member::<Option<_>>(inner, "rm")?.map(Action::Rm));
        Ok(Self {
            input: member(outer, "input")?,
            secondary_input: member(outer, "secondaryInput")?,
            output: member(outer, "output")?,
            action,
        })
    }
}

/// Nobody and the user 0 have one form in Go's, which is read as the user 0.
impl Member for UserOpt {
    fn write(&self, out: &mut String, dialect: Dialect) {
        Writer::new(out, dialect).oneof("User", |inner| {
            match &self.user {
                Some(user_opt::User::ByName(name)) => inner.always("byName", name),
                Some(user_opt::User::ById(id)) => match dialect {
                    Dialect::Go => inner.field("byId", id),
                    Dialect::Protobuf => inner.always("byID", id),
                },
                None => inner,
            };
        });
    }

    fn read(value: &Json) -> Read<Self> {
        let inner = nested(members(value)?, "User")?;
        let name = member::<Option<_>>(inner, "byName")?.map(user_opt::User::ByName);
        let id = user_opt::User::ById(member(inner, "byId")?);
        Ok(Self { user: Some(name.unwrap_or(id)) })
    }
}
