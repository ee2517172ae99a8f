use anyhow::Result;
use buildkit_api_types::WorkerRecord;
use buildkit_solver_pb::Platform;
use buildkit_util_gotext::format_duration;
use buildkit_util_tabwriter::{Fill, align};

use crate::cli::{Global, Records};
use crate::connect::connect;
use crate::size::exact_size;
use crate::template::{Data, Template};

use super::info;

pub(crate) async fn run(global: &Global, args: &Records) -> Result<()> {
    let format = args.format.format.as_deref().map(Template::parse).transpose()?;
    let workers = connect(global).await?.list_workers(args.filter.clone()).await?;
    if let Some(format) = format {
        println!("{}", format.render(&Data::List(workers.iter().map(data).collect()))?);
        return Ok(());
    }
    let text: String = if args.verbose {
        workers.iter().map(verbose).collect()
    } else {
        let row = |w: &WorkerRecord| format!("{}\t{}\n", w.id, platforms(&w.platforms));
        std::iter::once("ID\tPLATFORMS\n".to_owned()).chain(workers.iter().map(row)).collect()
    };
    print!("{}", align(&text, Fill::Tabs));
    Ok(())
}

fn platforms(platforms: &[Platform]) -> String {
    let names: Vec<_> = platforms.iter().map(|p| p.normalized().to_string()).collect();
    names.join(",")
}

fn verbose(worker: &WorkerRecord) -> String {
    let mut out = format!("ID:\t{}\nPlatforms:\t{}\n", worker.id, platforms(&worker.platforms));
    out.push_str(&info::text(&worker.buildkit_version.clone().unwrap_or_default()));
    out.push_str("Labels:\n");
    for (key, value) in &worker.labels {
        out.push_str(&format!("\t{key}:\t{value}\n"));
    }
    if !worker.cdi_devices.is_empty() {
        out.push_str("Devices:\n");
        for device in &worker.cdi_devices {
            out.push_str(&format!("\tName:\t{}\n", device.name));
            if device.on_demand {
                out.push_str(&format!("\tOnDemand:\t{}\n", device.on_demand));
            } else {
                out.push_str(&format!("\tAutoAllow:\t{}\n", device.auto_allow));
            }
            for (key, value) in &device.annotations {
                out.push_str(&format!("\tAnnotations:\t{key}:\t{value}\n"));
            }
        }
        out.push('\n');
    }
    for (number, rule) in worker.gc_policy.iter().enumerate() {
        out.push_str(&format!("GC Policy rule#{number}:\n\tAll:\t{}\n", rule.all));
        if !rule.filters.is_empty() {
            out.push_str(&format!("\tFilters:\t{}\n", rule.filters.join(" ")));
        }
        if rule.keep_duration > 0 {
            out.push_str(&format!("\tKeep duration:\t{}\n", format_duration(rule.keep_duration)));
        }
        for (name, bytes) in [
            ("Reserved space", rule.reserved_space),
            ("Minimum free space", rule.min_free_space),
            ("Maximum used space", rule.max_used_space),
        ] {
            if bytes > 0 {
                out.push_str(&format!("\t{name}:\t{}\n", exact_size(bytes)));
            }
        }
    }
    out.push('\n');
    out
}

fn data(worker: &WorkerRecord) -> Data {
    let text = |text: &str| Data::Text(text.to_owned());
    let map = |map: &std::collections::BTreeMap<String, String>| {
        Data::Map(map.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    };
    let platform = |platform: &Platform| {
        let mut fields = vec![
            ("Architecture", "architecture", text(&platform.architecture)),
            ("OS", "os", text(&platform.os)),
        ];
        if !platform.os_version.is_empty() {
            fields.push(("OSVersion", "os.version", text(&platform.os_version)));
        }
        if !platform.os_features.is_empty() {
            fields.push(("OSFeatures", "os.features", Data::texts(&platform.os_features)));
        }
        if !platform.variant.is_empty() {
            fields.push(("Variant", "variant", text(&platform.variant)));
        }
        Data::Struct(fields)
    };
    let policy = worker.gc_policy.iter().map(|rule| {
        Data::Struct(vec![
            ("All", "all", Data::Bool(rule.all)),
            ("Filter", "filter", Data::texts(&rule.filters)),
            ("KeepDuration", "keepDuration", Data::Int(rule.keep_duration)),
            ("ReservedSpace", "reservedSpace", Data::Int(rule.reserved_space)),
            ("MaxUsedSpace", "maxUsedSpace", Data::Int(rule.max_used_space)),
            ("MinFreeSpace", "minFreeSpace", Data::Int(rule.min_free_space)),
        ])
    });
    let devices = worker.cdi_devices.iter().map(|device| {
        Data::Struct(vec![
            ("Name", "name", text(&device.name)),
            ("AutoAllow", "autoAllow", Data::Bool(device.auto_allow)),
            ("Annotations", "annotations", map(&device.annotations)),
            ("OnDemand", "onDemand", Data::Bool(device.on_demand)),
        ])
    });
    Data::Struct(vec![
        ("ID", "id", text(&worker.id)),
        ("Labels", "labels", map(&worker.labels)),
        ("Platforms", "platforms", Data::List(worker.platforms.iter().map(platform).collect())),
        ("GCPolicy", "gcPolicy", Data::list(policy.collect())),
        (
            "BuildkitVersion",
            "buildkitVersion",
            info::data(&worker.buildkit_version.clone().unwrap_or_default()),
        ),
        ("CDIDevices", "cdiDevices", Data::list(devices.collect())),
    ])
}
