use anyhow::Result;
use buildkit_api_services_control::UsageRecord;
use buildkit_util_tabwriter::{Fill, align};

use crate::cli::{DiskUsage, Global};
use crate::connect::connect;
use crate::size::size;
use crate::template::{Data, Template};
use crate::time;

/// Heading of a table of records.
pub(crate) const HEADING: &str = "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n";

pub(crate) async fn run(global: &Global, args: &DiskUsage) -> Result<()> {
    let format = args.records.format.format.as_deref().map(Template::parse).transpose()?;
    let client = connect(global).await?;
    let records = client.disk_usage(args.records.filter.clone()).await?;
    if let Some(format) = format {
        println!("{}", format.render(&Data::List(records.iter().map(data).collect()))?);
        return Ok(());
    }
    if args.records.verbose {
        let text: String = records.iter().map(verbose).collect();
        print!("{}", align(&text, Fill::Tabs));
    } else {
        let rows: String = records.iter().map(row).collect();
        print!("{}", align(&format!("{HEADING}{rows}"), Fill::Tabs));
    }
    if args.records.filter.is_empty() {
        print!("{}", align(&summary(&records), Fill::Tabs));
    }
    Ok(())
}

/// A record as a line of a table.
pub(crate) fn row(record: &UsageRecord) -> String {
    let mark = |set| if set { "*" } else { "" };
    let id = format!("{}{}", record.id, mark(record.mutable));
    let size = format!("{}{}", size(record.size), mark(record.shared));
    format!("{id:<71}\t{:<11}\t{size}\t\n", !record.in_use)
}

/// A record with all that is known about it.
pub(crate) fn verbose(record: &UsageRecord) -> String {
    let mut out = String::new();
    let mut add = |key: &str, value: &str| out.push_str(&format!("{key}:\t{value}\n"));
    let created = record.created_at.unwrap_or_default();
    add("ID", &record.id);
    if !record.parents.is_empty() {
        add("Parents", &record.parents.join(";"));
    }
    add("Created at", &time::text(&created));
    add("Mutable", &record.mutable.to_string());
    add("Reclaimable", &(!record.in_use).to_string());
    add("Shared", &record.shared.to_string());
    add("Size", &size(record.size));
    if !record.description.is_empty() {
        add("Description", &record.description);
    }
    add("Usage count", &record.usage_count.to_string());
    if let Some(used) = &record.last_used_at {
        add("Last used", &time::text(used));
    }
    if !record.record_type.is_empty() {
        add("Type", &record.record_type);
    }
    out.push('\n');
    out
}

fn summary(records: &[UsageRecord]) -> String {
    let sum = |wanted: &dyn Fn(&UsageRecord) -> bool| -> i64 {
        records.iter().filter(|record| wanted(record)).map(|record| record.size.max(0)).sum()
    };
    let total = sum(&|_| true);
    let shared = sum(&|record| record.shared);
    let mut out = String::new();
    let mut add = |key: &str, bytes| out.push_str(&format!("{key}:\t{}\n", size(bytes)));
    if shared > 0 {
        add("Shared", shared);
        add("Private", total - shared);
    }
    add("Reclaimable", sum(&|record| !record.in_use));
    add("Total", total);
    out
}

/// A record for templates.
pub(crate) fn data(record: &UsageRecord) -> Data {
    let text = |text: &str| Data::Text(text.to_owned());
    let created = record.created_at.unwrap_or_default();
    Data::Struct(vec![
        ("ID", "id", text(&record.id)),
        ("Mutable", "mutable", Data::Bool(record.mutable)),
        ("InUse", "inUse", Data::Bool(record.in_use)),
        ("Size", "size", Data::Int(record.size)),
        ("CreatedAt", "createdAt", Data::Text(time::json(&created))),
        (
            "LastUsedAt",
            "lastUsedAt",
            record.last_used_at.as_ref().map_or(Data::Null, |used| Data::Text(time::json(used))),
        ),
        ("UsageCount", "usageCount", Data::Int(record.usage_count)),
        ("Parents", "parents", Data::texts(&record.parents)),
        ("Description", "description", text(&record.description)),
        ("RecordType", "recordType", text(&record.record_type)),
        ("Shared", "shared", Data::Bool(record.shared)),
    ])
}
