use anyhow::{Result, bail};
use buildkit_api_services_control::{BuildHistoryEvent, BuildHistoryRequest, BuildResultInfo, Descriptor};

use crate::cli::{Global, Monitor};
use crate::connect::connect;

/// Tells of builds until the daemon ends.
pub(crate) async fn run(global: &Global, args: &Monitor) -> Result<()> {
    let request = BuildHistoryRequest {
        active_only: !args.completed,
        r#ref: args.r#ref.clone(),
        ..BuildHistoryRequest::default()
    };
    let mut events = connect(global).await?.build_history(request).await?;
    while let Some(event) = events.next().await? {
        print!("{}", text(&event));
    }
    bail!("EOF")
}

fn text(event: &BuildHistoryEvent) -> String {
    let kind = event.r#type().as_str_name();
    let Some(record) = &event.record else { return format!("event: {kind}\n") };
    let mut out = format!("event: {kind} ref:{}\n", record.r#ref);
    if record.num_total_steps != 0 {
        out.push_str(&format!("  cache: {}/{}\n", record.num_cached_steps, record.num_total_steps));
    }
    if record.num_warnings != 0 {
        out.push_str(&format!("  warnings: {}\n", record.num_warnings));
    }
    for (name, found) in [("logs", &record.logs), ("trace", &record.trace)] {
        if let Some(found) = found {
            out.push_str(&format!("  {name}: {}\n", blob(found)));
        }
    }
    if let Some(result) = &record.result {
        add_result(&mut out, "", result);
    }
    for (platform, result) in &record.results {
        add_result(&mut out, &format!("[{platform}] "), result);
    }
    out
}

fn add_result(out: &mut String, platform: &str, result: &BuildResultInfo) {
    // The old field has what is among the new ones too.
    let old = result.result_deprecated.iter().filter(|_| result.results.is_empty());
    for found in result.results.values().chain(old) {
        out.push_str(&format!("  {platform}descriptor: {}\n", blob(found)));
    }
    for found in &result.attestations {
        out.push_str(&format!("  {platform}attestation: {}\n", blob(found)));
    }
}

/// A descriptor in protobuf's text format.
fn blob(blob: &Descriptor) -> String {
    let mut fields = Vec::new();
    if !blob.media_type.is_empty() {
        fields.push(format!("media_type:{:?}", blob.media_type));
    }
    if !blob.digest.is_empty() {
        fields.push(format!("digest:{:?}", blob.digest));
    }
    if blob.size != 0 {
        fields.push(format!("size:{}", blob.size));
    }
    fields.extend(
        blob.annotations.iter().map(|(key, value)| format!("annotations:{{key:{key:?} value:{value:?}}}")),
    );
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use buildkit_api_services_control::BuildHistoryRecord;

    use super::*;

    #[test]
    fn events_are_told_in_lines() {
        let found = |digest: &str| Descriptor {
            media_type: "m".to_owned(),
            digest: digest.to_owned(),
            size: 3,
            annotations: [("k".to_owned(), "v".to_owned())].into(),
        };
        let image = BuildResultInfo {
            result_deprecated: Some(found("d:1")),
            results: [(0, found("d:1"))].into(),
            attestations: vec![found("d:2")],
        };
        let event = BuildHistoryEvent {
            r#type: 1,
            record: Some(BuildHistoryRecord {
                r#ref: "b1".to_owned(),
                num_total_steps: 4,
                num_cached_steps: 1,
                num_warnings: 2,
                logs: Some(Descriptor { digest: "d:0".to_owned(), ..Descriptor::default() }),
                result: Some(image.clone()),
                results: [("linux/amd64".to_owned(), BuildResultInfo { results: [].into(), ..image })].into(),
                ..BuildHistoryRecord::default()
            }),
        };
        let d = |n| format!("media_type:\"m\" digest:\"d:{n}\" size:3 annotations:{{key:\"k\" value:\"v\"}}");
        let (d1, d2) = (d(1), d(2));
        assert_eq!(
            text(&event),
            format!(
                "event: COMPLETE ref:b1\n  cache: 1/4\n  warnings: 2\n  logs: digest:\"d:0\"\n  descriptor: {d1}\n  \
                 attestation: {d2}\n  [linux/amd64] descriptor: {d1}\n  [linux/amd64] attestation: {d2}\n"
            )
        );
        assert_eq!(text(&BuildHistoryEvent { r#type: 2, record: None }), "event: DELETED\n");
    }
}
