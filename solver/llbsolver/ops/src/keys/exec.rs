use buildkit_solver_pb as pb;
use buildkit_util_gojson::Object;
use buildkit_util_system::path;

use super::{InputKey, KeyMap, Selector, cache_type, select};
use crate::spec::ExecSpec;

pub(super) fn key(spec: &ExecSpec, platform: &pb::Platform, inputs: usize) -> KeyMap {
    let mut op = spec.op.clone();
    if let Some(meta) = &mut op.meta {
        // What only says how to reach something does not change what is reached.
        meta.proxy_env = None;
        for host in &mut meta.extra_hosts {
            host.ip.clear();
        }
    }
    for mount in &mut op.mounts {
        mount.selector.clear();
        forget_cache_id(mount);
    }
    if let [mount] = &op.mounts[..]
        && is_plain_root(mount)
    {
        // Old daemons left the mounts out; for the commonest list that still holds.
        op.mounts.clear();
    }
    let mut text = String::new();
    Object::new(&mut text)
        .field("Type", &cache_type("exec"))
        .field("Exec", &op)
        .field("OS", platform.os.as_str())
        .field("Arch", platform.architecture.as_str())
        .omit_empty("Variant", platform.variant.as_str())
        .omit_empty("OSVersion", platform.os_version.as_str())
        .omit_empty("OSFeatures", &platform.os_features);
    KeyMap::new(text, input_keys(spec, inputs))
}

/// Directories that outlive builds do not take part, but for ids that a Dockerfile gives by default:
/// keys of existing caches have these.
fn forget_cache_id(mount: &mut pb::Mount) {
    let Some(cache) = &mut mount.cache_opt else { return };
    let is_default = cache.sharing == pb::CacheSharingOpt::Shared as i32
        && (cache.id == mount.dest
            || cache.id.split_once('/').is_some_and(|(_namespace, dest)| dest == mount.dest));
    if !is_default {
        cache.id.clear();
        cache.sharing = pb::CacheSharingOpt::Shared as i32;
    }
}

fn is_plain_root(mount: &pb::Mount) -> bool {
    mount.dest == pb::ROOT_MOUNT
        && !mount.readonly
        && mount.mount_type == pb::MountType::Bind as i32
        && mount.cache_opt.is_none()
        && mount.ssh_opt.is_none()
        && mount.secret_opt.is_none()
        && mount.result_id.is_empty()
}

fn input_keys(spec: &ExecSpec, inputs: usize) -> Vec<InputKey> {
    let mut selected: Vec<Vec<String>> = vec![Vec::new(); inputs];
    let mut by_content = vec![false; inputs];
    for (mount, checked) in spec.op.mounts.iter().zip(&spec.mounts) {
        let tree = matches!(checked.kind, pb::MountType::Bind | pb::MountType::Cache);
        let (Some(input), true) = (checked.input, tree) else { continue };
        selected[input].push(path::join(["/", &mount.selector]));
        // The last mount of an input decides for all.
        by_content[input] = checked.by_content;
    }
    selected
        .into_iter()
        .zip(by_content)
        .map(|(paths, by_content)| InputKey {
            selector: (!paths.is_empty()).then(|| select::digest(paths.iter().map(String::as_str))),
            content: by_content.then(|| contents(select::dedupe_paths(paths))),
            prepare: true,
        })
        .collect()
}

fn contents(paths: Vec<String>) -> Vec<Selector> {
    if paths.iter().any(|path| path.is_empty() || path == "/") {
        return Vec::new();
    }
    paths.into_iter().map(|path| Selector { path, follow_links: true, ..Selector::default() }).collect()
}
