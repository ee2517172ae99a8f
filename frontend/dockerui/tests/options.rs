//! Options are read as the original reads them: it wrote `options.jsonl`, a line for each of our sets of options.

use std::collections::BTreeMap;

use buildkit_client_llb::{Network, ResolveMode};
use buildkit_exporter_containerimage_exptypes::platform_id;
use buildkit_frontend_dockerui::{OptionError, Options};
use buildkit_frontend_gateway_client::BuildOpts;
use buildkit_solver_pb::caps;
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(opts: BTreeMap<String, String>) -> Result<Options, OptionError> {
    Options::parse(&BuildOpts {
        opts,
        session_id: "s".to_owned(),
        workers: Vec::new(),
        product: String::new(),
        llb_caps: caps::list().cap_set(caps::list().all()),
        caps: caps::list().cap_set([]),
    })
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(";")
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(",")
}

/// All that is read, in the words in which it is recorded.
fn shown(options: &Options) -> Value {
    let mode = match options.image_resolve_mode {
        ResolveMode::Default => "default",
        ResolveMode::ForcePull => "pull",
        ResolveMode::PreferLocal => "local",
    };
    let network = match options.network {
        Network::Sandbox => "UNSET",
        Network::Host => "HOST",
        Network::None => "NONE",
    };
    let resources = options.linux_resources.as_ref().map_or(String::new(), |r| {
        format!(
            "{} {} {} {} {} {}|{}",
            r.memory, r.memory_swap, r.cpu_shares, r.cpu_period, r.cpu_quota, r.cpuset_cpus, r.cpuset_mems
        )
    });
    let names = |names: &std::collections::BTreeSet<String>| {
        format!("[{}]", names.iter().cloned().collect::<Vec<_>>().join(" "))
    };
    let lint = options.lint.as_ref().map_or(String::new(), |config| {
        let (skip, experimental) = (&config.skip, &config.experimental);
        let error = config.error;
        format!(
            "{} {} {} {} {error}",
            skip.all,
            names(&skip.names),
            experimental.all,
            names(&experimental.names)
        )
    });
    let sbom = options.attestations.get("sbom").map_or(String::new(), |attrs| {
        let mut attrs = attrs.clone();
        let generator = attrs.remove("generator").unwrap_or_default();
        format!("{generator}{{{}}}", pairs(&attrs))
    });
    json!([
        pairs(&options.build_args),
        options.cache_id_namespace,
        options.cgroup_parent,
        joined(&options.extra_hosts, |(host, ip)| format!("{host}={ip}")),
        options.hostname,
        mode,
        pairs(&options.labels),
        network,
        options.shm_size,
        options.target,
        joined(&options.ulimits, |u| format!("{}={}:{}", u.limit.name(), u.soft, u.hard)),
        resources,
        lint,
        joined(&options.cache_imports, |import| format!("{}{{{}}}", import.kind, pairs(&import.attrs))),
        joined(&options.target_platforms, platform_id),
        options.multi_platform,
        sbom,
        options.no_cache.contains("Base"),
        options.no_cache.contains("other"),
        pairs(&options.raw),
    ])
}

#[test]
fn options_are_read_as_the_original_does() {
    let mut different = Vec::new();
    for line in include_str!("options.jsonl").lines() {
        let (opts, recorded): (BTreeMap<String, String>, Value) =
            serde_json::from_str(line).expect("a recorded line");
        let ours = match parse(opts.clone()) {
            Ok(options) => shown(&options),
            Err(error) => json!(error.to_string()),
        };
        if ours != recorded {
            different.push(format!("{opts:?}\n  ours     {ours}\n  original {recorded}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn what_cannot_be_decoded_is_told() {
    let opts = BTreeMap::from([("cache-imports".to_owned(), "[".to_owned())]);
    let error = parse(opts).expect_err("no JSON").to_string();
    assert!(error.starts_with("failed to unmarshal cache-imports (\"[\"): "), "{error}");
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(
        key in prop::sample::select(vec![
            "platform", "add-hosts", "shm-size", "ulimit", "memory", "cpusetcpus", "cache-imports", "cache-from",
            "attest:sbom", "build-arg:BUILDKIT_DOCKERFILE_CHECK", "no-cache", "multi-platform",
        ]),
        value in "[a-z0-9=:,;/\"{}\\[\\]()%+*. -]{0,24}|\\PC{0,16}",
    ) {
        let _ = parse(BTreeMap::from([(key.to_owned(), value)]));
    }
}
