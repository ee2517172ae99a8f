//! The JSON of Go's `encoding/json` for LLB messages.
//!
//! Cache keys hash it, error details carry it, `buildctl debug dump-llb` prints it. Names are those
//! of the protobuf fields, defaults are left out, bytes are base64, enums are numbers. Oneofs sit in
//! an object of their own. Writing is through [`buildkit_util_gojson::Value`], which all messages
//! implement.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit_util_gojson::{Array, Base64, Object, Value, write_string};
use bytes::Bytes;
use serde_json::{Map as Members, Value as Json};

use crate::map::{MapEntry, from_map};
use crate::{Error, FileAction, Op, UserOpt, file_action, op, user_opt};

/// Reads a message from its JSON.
///
/// # Errors
/// When the text is not JSON, or a member has another type than the field.
pub fn from_str<M: FromJson>(text: &str) -> Result<M, Error> {
    let value: Json = serde_json::from_str(text)
        .map_err(|error| Error::Json { message: M::NAME, reason: error.to_string() })?;
    from_value(&value)
}

/// Reads a message from JSON that is parsed already.
///
/// # Errors
/// When a member has another type than the field.
pub fn from_value<M: FromJson>(value: &Json) -> Result<M, Error> {
    M::read(value).map_err(|reason| Error::Json { message: M::NAME, reason })
}

/// A message that can be read from JSON.
pub trait FromJson: Member {
    /// Protobuf name, for errors.
    const NAME: &'static str;
}

type Read<T> = Result<T, String>;

/// Something that a field can hold.
pub trait Member: Sized {
    /// Appends the JSON form.
    #[doc(hidden)]
    fn write(&self, out: &mut String);
    /// Whether a field with this value is left out.
    #[doc(hidden)]
    fn is_default(&self) -> bool {
        false
    }
    /// Reads the JSON form.
    #[doc(hidden)]
    fn read(value: &Json) -> Read<Self>;
    /// Reads the value of a field that is missing or `null`.
    #[doc(hidden)]
    fn missing() -> Read<Self> {
        Err("a list has a null".to_owned())
    }
    /// Appends the JSON form of several, which for entries of a map is an object.
    #[doc(hidden)]
    fn write_list(list: &[Self], out: &mut String) {
        let mut array = Array::new(out);
        for item in list {
            array.item(&Written(item));
        }
    }
    /// Reads several.
    #[doc(hidden)]
    fn read_list(value: &Json) -> Read<Vec<Self>> {
        let list = value.as_array().ok_or_else(|| mismatch("a list", value))?;
        list.iter().map(|item| if item.is_null() { Self::missing() } else { Self::read(item) }).collect()
    }
}

/// A member as a value for the writer.
struct Written<'a, T>(&'a T);

impl<T: Member> Value for Written<'_, T> {
    fn write_json(&self, out: &mut String) {
        self.0.write(out);
    }

    fn is_empty_value(&self) -> bool {
        self.0.is_default()
    }
}

fn mismatch(want: &str, got: &Json) -> String {
    let got = match got {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    };
    format!("{want} is wanted where {got} stands")
}

/// The members of an object; `null` has none.
fn members(value: &Json) -> Read<&Members<String, Json>> {
    static NONE: std::sync::LazyLock<Members<String, Json>> = std::sync::LazyLock::new(Members::new);
    match value {
        Json::Object(members) => Ok(members),
        Json::Null => Ok(&NONE),
        _ => Err(mismatch("an object", value)),
    }
}

fn member<T: Member>(members: &Members<String, Json>, name: &str) -> Read<T> {
    match members.get(name) {
        None | Some(Json::Null) => T::missing(),
        Some(value) => T::read(value).map_err(|reason| format!("`{name}`: {reason}")),
    }
}

/// The object in a member, for the nested objects of oneofs.
fn nested<'a>(outer: &'a Members<String, Json>, name: &str) -> Read<&'a Members<String, Json>> {
    members(outer.get(name).unwrap_or(&Json::Null))
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Member for $type {
            fn write(&self, out: &mut String) {
                self.write_json(out);
            }

            fn is_default(&self) -> bool {
                *self == 0
            }

            fn read(value: &Json) -> Read<Self> {
                let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
                let number = number.ok_or_else(|| mismatch("an integer", value))?;
                Self::try_from(number).map_err(|_| format!("{number} is out of range"))
            }

            fn missing() -> Read<Self> {
                Ok(0)
            }
        }
    )*};
}
integers!(i32, i64, u32, u64);

impl Member for bool {
    fn write(&self, out: &mut String) {
        self.write_json(out);
    }

    fn is_default(&self) -> bool {
        !self
    }

    fn read(value: &Json) -> Read<Self> {
        value.as_bool().ok_or_else(|| mismatch("a boolean", value))
    }

    fn missing() -> Read<Self> {
        Ok(false)
    }
}

impl Member for String {
    fn write(&self, out: &mut String) {
        write_string(out, self);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn read(value: &Json) -> Read<Self> {
        value.as_str().map(str::to_owned).ok_or_else(|| mismatch("a string", value))
    }

    fn missing() -> Read<Self> {
        Ok(Self::new())
    }
}

impl Member for Bytes {
    fn write(&self, out: &mut String) {
        Base64(self).write_json(out);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn read(value: &Json) -> Read<Self> {
        let text = value.as_str().ok_or_else(|| mismatch("a string", value))?;
        STANDARD.decode(text).map(Self::from).map_err(|error| error.to_string())
    }

    fn missing() -> Read<Self> {
        Ok(Self::new())
    }
}

impl<T: Member> Member for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }

    fn is_default(&self) -> bool {
        self.is_none()
    }

    fn read(value: &Json) -> Read<Self> {
        T::read(value).map(Some)
    }

    fn missing() -> Read<Self> {
        Ok(None)
    }
}

impl<T: Member> Member for Vec<T> {
    fn write(&self, out: &mut String) {
        T::write_list(self, out);
    }

    fn is_default(&self) -> bool {
        self.is_empty()
    }

    fn read(value: &Json) -> Read<Self> {
        T::read_list(value)
    }

    fn missing() -> Read<Self> {
        Ok(Self::new())
    }
}

fn write_map<E: MapEntry>(entries: &[E], out: &mut String)
where
    E::Value: Member,
{
    let sorted: BTreeMap<_, _> = entries.iter().map(|entry| (entry.key(), entry.value())).collect();
    let mut object = Object::new(out);
    for (key, value) in sorted {
        match value {
            Some(value) => object.field(key, &Written(value)),
            None => object.field(key, &Written(&E::Value::default())),
        };
    }
}

fn read_map<E: MapEntry>(value: &Json) -> Read<Vec<E>>
where
    E::Value: Member,
{
    let members = members(value)?;
    let parts: Read<Vec<_>> = members.keys().map(|key| Ok((key.clone(), member(members, key)?))).collect();
    Ok(from_map(parts?))
}

macro_rules! maps {
    ($($entry:ty),* $(,)?) => {$(
        impl Member for $entry {
            fn write(&self, out: &mut String) {
                write_map(std::slice::from_ref(self), out);
            }

            fn read(value: &Json) -> Read<Self> {
                let entry = read_map(value)?.into_iter().next();
                entry.ok_or_else(|| "a map has no entry".to_owned())
            }

            fn write_list(list: &[Self], out: &mut String) {
                write_map(list, out);
            }

            fn read_list(value: &Json) -> Read<Vec<Self>> {
                read_map(value)
            }
        }
    )*};
}
maps!(
    crate::source_op::AttrsEntry,
    crate::build_op::AttrsEntry,
    crate::build_op::InputsEntry,
    crate::definition::MetadataEntry,
    crate::op_metadata::DescriptionEntry,
    crate::op_metadata::CapsEntry,
    crate::source::LocationsEntry,
);

/// What every message has in common.
macro_rules! message {
    ($message:ident) => {
        impl Value for $message {
            fn write_json(&self, out: &mut String) {
                self.write(out);
            }
        }

        impl FromJson for $message {
            const NAME: &'static str = concat!("pb.", stringify!($message));
        }
    };
}

/// Messages whose JSON is their fields, in the order of their numbers.
macro_rules! messages {
    ($($message:ident { $($field:ident $name:literal),* })*) => {
        $(
            impl Member for crate::$message {
                fn write(&self, out: &mut String) {
                    let mut object = Object::new(out);
                    $(object.omit_empty($name, &Written(&self.$field));)*
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
}

messages! {
    Platform {
        architecture "Architecture", os "OS", variant "Variant", os_version "OSVersion",
        os_features "OSFeatures"
    }
    Input { digest "digest", index "index" }
    WorkerConstraints { filter "filter" }
    ExecOp {
        meta "meta", mounts "mounts", network "network", security "security",
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
        mount_type "mountType", tmpfs_opt "TmpfsOpt", cache_opt "cacheOpt",
        secret_opt "secretOpt", ssh_opt "SSHOpt", result_id "resultID",
        content_cache "contentCache"
    }
    TmpfsOpt { size "size" }
    CacheOpt { id "ID", sharing "sharing" }
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
    fn write(&self, out: &mut String) {
        let mut object = Object::new(out);
        object.omit_empty("inputs", &Written(&self.inputs));
        object.object("Op", |inner| {
            match &self.op {
                Some(op::Op::Exec(exec)) => inner.field("exec", exec),
                Some(op::Op::Source(source)) => inner.field("source", source),
                Some(op::Op::File(file)) => inner.field("file", file),
                Some(op::Op::Build(build)) => inner.field("build", build),
                Some(op::Op::Merge(merge)) => inner.field("merge", merge),
                Some(op::Op::Diff(diff)) => inner.field("diff", diff),
                Some(op::Op::Passthrough(pass)) => inner.field("passthrough", pass),
                None => inner,
            };
        });
        object.omit_empty("platform", &self.platform);
        object.omit_empty("constraints", &self.constraints);
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

/// A symbolic link has no form: upstream's writer does not know it, and cache keys hash the result.
impl Member for FileAction {
    fn write(&self, out: &mut String) {
        use file_action::Action;

        let mut object = Object::new(out);
        object.field("input", &self.input);
        object.field("secondaryInput", &self.secondary_input);
        object.field("output", &self.output);
        object.object("Action", |inner| {
            match &self.action {
                Some(Action::Copy(copy)) => inner.field("copy", copy),
                Some(Action::Mkfile(mkfile)) => inner.field("mkfile", mkfile),
                Some(Action::Mkdir(mkdir)) => inner.field("mkdir", mkdir),
                Some(Action::Rm(rm)) => inner.field("rm", rm),
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

/// Nobody and the user 0 have one form, which is read as the user 0.
impl Member for UserOpt {
    fn write(&self, out: &mut String) {
        Object::new(out).object("User", |inner| {
            match &self.user {
                Some(user_opt::User::ByName(name)) => inner.field("byName", name),
                Some(user_opt::User::ById(id)) => inner.omit_empty("byId", &Written(id)),
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

/// For fuzzing: reading arbitrary text keeps its promises.
///
/// # Panics
/// When a promise is broken.
#[cfg(any(test, feature = "test-util"))]
pub fn fuzz_json(text: &str) {
    let Ok(op) = from_str::<Op>(text) else { return };
    let json = buildkit_util_gojson::to_string(&op);
    match from_str::<Op>(&json) {
        Ok(again) => assert_eq!(again, op),
        Err(error) => panic!("What is written reads: {error}"),
    }
}
