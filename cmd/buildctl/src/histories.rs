//! Records of builds: listing and deleting.

use anyhow::{Result, bail};
use buildkit_api_services_control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo,
    Descriptor, Exporter, UpdateBuildHistoryRequest,
};
use buildkit_util_tabwriter::{Fill, align};
use prost_types::Timestamp;

use crate::cli::{Format, Global};
use crate::connect::connect;
use crate::template::{Data, Template};
use crate::time;

/// Lists records.
pub(crate) async fn list(global: &Global, args: &Format) -> Result<()> {
    let format = args.format.as_deref().map(Template::parse).transpose()?;
    let client = connect(global).await?;
    let mut events = client.build_history(now()).await?;
    let mut table = Table::new("TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION\tPINNED\n");
    while let Some(event) = events.next().await? {
        match &format {
            Some(format) => println!("{}", format.render(&data(&event))?),
            None => table.add(&format!("{}\t{}\n", row(&event), if is_pinned(&event) { "*" } else { "" })),
        }
    }
    if format.is_none() {
        table.finish();
    }
    Ok(())
}

/// Deletes all records that are not pinned, and lists them. One that cannot be deleted keeps none from it.
pub(crate) async fn prune(global: &Global, args: &Format) -> Result<()> {
    let format = args.format.as_deref().map(Template::parse).transpose()?;
    let client = connect(global).await?;
    let mut events = client.build_history(now()).await?;
    let mut table = Table::new("TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION\n");
    let mut problems = Vec::new();
    while let Some(event) = events.next().await? {
        let Some(record) = event.record.as_ref().filter(|_| is_deletable(&event)) else { continue };
        let request =
            UpdateBuildHistoryRequest { r#ref: record.r#ref.clone(), delete: true, ..Default::default() };
        if let Err(error) = client.update_build_history(request).await {
            problems.push(error.to_string());
            continue;
        }
        match &format {
            Some(format) => println!("{}", format.render(&data(&event))?),
            None => table.add(&format!("{}\n", row(&event))),
        }
    }
    if format.is_none() {
        table.finish();
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// A request for what there is now.
fn now() -> BuildHistoryRequest {
    BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() }
}

/// A table whose rows are printed as they come.
struct Table {
    /// Until the first row.
    heading: &'static str,
}

impl Table {
    fn new(heading: &'static str) -> Self {
        Self { heading }
    }

    fn add(&mut self, row: &str) {
        print!("{}", align(&format!("{}{row}", std::mem::take(&mut self.heading)), Fill::Tabs));
    }

    fn finish(mut self) {
        self.add("");
    }
}

fn is_pinned(event: &BuildHistoryEvent) -> bool {
    event.record.as_ref().is_some_and(|record| record.pinned)
}

/// Whether it is about a record that may go. Of a build that runs there is none yet.
fn is_deletable(event: &BuildHistoryEvent) -> bool {
    !is_pinned(event) && event.r#type() != BuildHistoryEventType::Started
}

fn row(event: &BuildHistoryEvent) -> String {
    let empty = BuildHistoryRecord::default();
    let record = event.record.as_ref().unwrap_or(&empty);
    let time = |time: &Option<Timestamp>| time.map(|time| time::seconds(&time)).unwrap_or_default();
    let (created, completed) = (time(&record.created_at), time(&record.completed_at));
    format!(
        "{}\t{}\t{created}\t{completed}\t{}",
        event.r#type().as_str_name(),
        record.r#ref,
        record.generation
    )
}

/// An event for templates.
fn data(event: &BuildHistoryEvent) -> Data {
    Data::Message(vec![
        ("Type", "type", Data::Int(event.r#type.into())),
        ("Record", "record", event.record.as_ref().map_or(Data::Null, record)),
    ])
}

fn record(record: &BuildHistoryRecord) -> Data {
    let error = record.error.as_ref().map_or(Data::Null, |error| {
        Data::Message(vec![
            ("Code", "code", Data::Int(error.code.into())),
            ("Message", "message", text(&error.message)),
        ])
    });
    let results = record.results.iter().map(|(platform, info)| (platform.clone(), result(info)));
    Data::Message(vec![
        ("Ref", "Ref", text(&record.r#ref)),
        ("Frontend", "Frontend", text(&record.frontend)),
        ("FrontendAttrs", "FrontendAttrs", map(&record.frontend_attrs)),
        ("Exporters", "Exporters", Data::list(record.exporters.iter().map(exporter).collect())),
        ("Error", "error", error),
        ("CreatedAt", "CreatedAt", timestamp(record.created_at.as_ref())),
        ("CompletedAt", "CompletedAt", timestamp(record.completed_at.as_ref())),
        ("Logs", "logs", blob(record.logs.as_ref())),
        ("ExporterResponse", "ExporterResponse", map(&record.exporter_response)),
        ("Result", "Result", record.result.as_ref().map_or(Data::Null, result)),
        ("Results", "Results", Data::Map(results.collect())),
        ("Generation", "Generation", Data::Int(record.generation.into())),
        ("Trace", "trace", blob(record.trace.as_ref())),
        ("Pinned", "pinned", Data::Bool(record.pinned)),
        ("NumCachedSteps", "numCachedSteps", Data::Int(record.num_cached_steps.into())),
        ("NumTotalSteps", "numTotalSteps", Data::Int(record.num_total_steps.into())),
        ("NumCompletedSteps", "numCompletedSteps", Data::Int(record.num_completed_steps.into())),
        ("ExternalError", "externalError", blob(record.external_error.as_ref())),
        ("NumWarnings", "numWarnings", Data::Int(record.num_warnings.into())),
    ])
}

fn result(info: &BuildResultInfo) -> Data {
    let results = info.results.iter().map(|(index, found)| (index.to_string(), blob(Some(found))));
    let attestations = info.attestations.iter().map(|found| blob(Some(found)));
    Data::Message(vec![
        ("ResultDeprecated", "ResultDeprecated", blob(info.result_deprecated.as_ref())),
        ("Attestations", "Attestations", Data::list(attestations.collect())),
        ("Results", "Results", Data::Map(results.collect())),
    ])
}

fn exporter(exporter: &Exporter) -> Data {
    Data::Message(vec![("Type", "Type", text(&exporter.r#type)), ("Attrs", "Attrs", map(&exporter.attrs))])
}

fn blob(blob: Option<&Descriptor>) -> Data {
    let Some(blob) = blob else { return Data::Null };
    Data::Message(vec![
        ("MediaType", "media_type", text(&blob.media_type)),
        ("Digest", "digest", text(&blob.digest)),
        ("Size", "size", Data::Int(blob.size)),
        ("Annotations", "annotations", map(&blob.annotations)),
    ])
}

fn timestamp(time: Option<&Timestamp>) -> Data {
    let Some(time) = time else { return Data::Null };
    Data::Message(vec![
        ("Seconds", "seconds", Data::Int(time.seconds)),
        ("Nanos", "nanos", Data::Int(time.nanos.into())),
    ])
}

fn map(entries: &std::collections::BTreeMap<String, String>) -> Data {
    Data::Map(entries.iter().map(|(key, value)| (key.clone(), text(value))).collect())
}

fn text(text: &str) -> Data {
    Data::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_or_is_pinned_is_not_pruned() {
        let event = |kind: BuildHistoryEventType, pinned| BuildHistoryEvent {
            r#type: kind.into(),
            record: Some(BuildHistoryRecord { pinned, ..BuildHistoryRecord::default() }),
        };
        assert!(is_deletable(&event(BuildHistoryEventType::Complete, false)));
        assert!(!is_deletable(&event(BuildHistoryEventType::Complete, true)));
        assert!(!is_deletable(&event(BuildHistoryEventType::Started, false)));
    }

    #[test]
    fn events_as_rows_and_as_json() {
        let event = BuildHistoryEvent {
            r#type: 1,
            record: Some(BuildHistoryRecord {
                r#ref: "b1".to_owned(),
                created_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
                logs: Some(Descriptor { digest: "sha256:0".to_owned(), size: 7, ..Descriptor::default() }),
                generation: 2,
                ..BuildHistoryRecord::default()
            }),
        };
        assert_eq!(row(&event), "COMPLETE\tb1\t2023-11-14T22:13:20Z\t\t2");
        let render = |template: &str| Template::parse(template).expect("parses").render(&data(&event));
        assert_eq!(
            render("json").expect("renders"),
            r#"{"type":1,"record":{"Ref":"b1","CreatedAt":{"seconds":1700000000,"nanos":5},"logs":{"digest":"sha256:0","size":7},"Generation":2}}"#
        );
        let fields = "{{.Record.Ref}} {{.Record.Logs.Size}} {{.Record.Pinned}} {{len .Record.FrontendAttrs}}";
        assert_eq!(render(fields).expect("renders"), "b1 7 false 0");
    }
}
