use std::time::{SystemTime, UNIX_EPOCH};

use buildkit_util_gojson::{Array, Base64, Object};
use buildkit_util_progress::{
    LogStream, Position, SolveStatus, Vertex, VertexLog, VertexStatus, VertexWarning,
};

/// A message as the original writes it into trace files and in mode `rawjson`: one line of JSON,
/// logs and warnings in base64, times in RFC 3339.
pub fn to_json(status: &SolveStatus) -> String {
    let mut out = String::new();
    let mut object = Object::new(&mut out);
    list(&mut object, "vertexes", &status.vertexes, vertex);
    list(&mut object, "statuses", &status.statuses, vertex_status);
    list(&mut object, "logs", &status.logs, log);
    list(&mut object, "warnings", &status.warnings, warning);
    drop(object);
    out
}

fn list<T>(object: &mut Object<'_>, name: &str, items: &[T], write: impl Fn(&mut Object<'_>, &T)) {
    if items.is_empty() {
        return;
    }
    object.array(name, |array: &mut Array<'_>| {
        for item in items {
            array.object(|object| write(object, item));
        }
    });
}

fn vertex(object: &mut Object<'_>, vertex: &Vertex) {
    let inputs: Vec<&str> = vertex.inputs.iter().map(|digest| digest.as_str()).collect();
    object
        .omit_empty("digest", vertex.digest.as_str())
        .omit_empty("inputs", inputs.as_slice())
        .omit_empty("name", &vertex.name)
        .omit_empty("started", &vertex.started.map(rfc3339))
        .omit_empty("completed", &vertex.completed.map(rfc3339))
        .omit_empty("cached", &vertex.cached)
        .omit_empty("error", &vertex.error);
    if let Some(group) = &vertex.progress_group {
        object.object("progressGroup", |object| {
            object
                .omit_empty("id", &group.id)
                .omit_empty("name", &group.name)
                .omit_empty("weak", &group.weak);
        });
    }
}

fn vertex_status(object: &mut Object<'_>, status: &VertexStatus) {
    object
        .field("id", &status.id)
        .omit_empty("vertex", status.vertex.as_str())
        .omit_empty("name", &status.name)
        .omit_empty("total", &status.total)
        .field("current", &status.current)
        .field("timestamp", &rfc3339(status.timestamp))
        .omit_empty("started", &status.started.map(rfc3339))
        .omit_empty("completed", &status.completed.map(rfc3339));
}

fn log(object: &mut Object<'_>, log: &VertexLog) {
    let stream: i64 = match log.stream {
        LogStream::Stdout => 1,
        LogStream::Stderr => 2,
    };
    object
        .omit_empty("vertex", log.vertex.as_str())
        .field("stream", &stream)
        .field("data", &Base64(&log.data))
        .field("timestamp", &rfc3339(log.timestamp));
}

fn warning(object: &mut Object<'_>, warning: &VertexWarning) {
    object.omit_empty("vertex", warning.vertex.as_str()).omit_empty("level", &i64::from(warning.level));
    if !warning.short.is_empty() {
        object.field("short", &Base64(&warning.short));
    }
    if !warning.detail.is_empty() {
        object.array("detail", |array| {
            for line in &warning.detail {
                array.item(&Base64(line));
            }
        });
    }
    object.omit_empty("url", &warning.url);
    if let Some(info) = &warning.source_info {
        object.object("sourceInfo", |object| {
            object.omit_empty("filename", &info.filename);
            if !info.data.is_empty() {
                object.field("data", &Base64(&info.data));
            }
            object.omit_empty("language", &info.language);
        });
    }
    list(object, "range", &warning.ranges, |object, range| {
        let position = |object: &mut Object<'_>, position: &Position| {
            object
                .omit_empty("line", &i64::from(position.line))
                .omit_empty("character", &i64::from(position.character));
        };
        object.object("start", |object| position(object, &range.start));
        object.object("end", |object| position(object, &range.end));
    });
}

/// A time in UTC, with as many digits after the second as there are.
fn rfc3339(time: SystemTime) -> String {
    let nanos = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut out = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if fraction != 0 {
        out.push_str(format!(".{fraction:09}").trim_end_matches('0'));
    }
    out.push('Z');
    out
}

/// The Gregorian date of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use buildkit_util_cachedigest::Digest;
    use buildkit_util_progress::{ProgressGroup, Range, SourceInfo};
    use bytes::Bytes;
    use std::time::Duration;

    #[test]
    fn times() {
        for (seconds, nanos, expect) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_700_000_000, 5, "2023-11-14T22:13:20.000000005Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos)), expect);
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31T23:59:59Z");
    }

    /// The expected text was printed by the original for the same message.
    #[test]
    fn messages() {
        let digest = Digest::parse("random:aa").expect("a digest");
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 120_000_000);
        let status = SolveStatus {
            vertexes: vec![Vertex {
                digest: digest.clone(),
                inputs: vec![digest.clone()],
                name: "a <b>".into(),
                started: Some(time),
                completed: None,
                cached: true,
                error: String::new(),
                progress_group: Some(ProgressGroup { id: "g".into(), name: "n".into(), weak: true }),
            }],
            statuses: vec![VertexStatus {
                id: String::new(),
                vertex: digest.clone(),
                name: String::new(),
                total: 0,
                current: 0,
                timestamp: time,
                started: None,
                completed: Some(time),
            }],
            logs: vec![VertexLog {
                vertex: digest.clone(),
                stream: LogStream::Stderr,
                data: Bytes::from_static(b"hi\n"),
                timestamp: time,
            }],
            warnings: vec![VertexWarning {
                vertex: digest,
                level: 1,
                short: Bytes::from_static(b"s"),
                detail: vec![Bytes::from_static(b"d")],
                url: "u".into(),
                source_info: Some(SourceInfo {
                    filename: "f".into(),
                    data: Bytes::from_static(b"x"),
                    language: String::new(),
                }),
                ranges: vec![Range {
                    start: Position { line: 1, character: 0 },
                    end: Position { line: 1, character: 2 },
                }],
            }],
        };
        assert_eq!(
            to_json(&status),
            concat!(
                r#"{"vertexes":[{"digest":"random:aa","inputs":["random:aa"],"name":"a \u003cb\u003e","#,
                r#""started":"2023-11-14T22:13:20.12Z","cached":true,"#,
                r#""progressGroup":{"id":"g","name":"n","weak":true}}],"#,
                r#""statuses":[{"id":"","vertex":"random:aa","current":0,"#,
                r#""timestamp":"2023-11-14T22:13:20.12Z","completed":"2023-11-14T22:13:20.12Z"}],"#,
                r#""logs":[{"vertex":"random:aa","stream":2,"data":"aGkK","#,
                r#""timestamp":"2023-11-14T22:13:20.12Z"}],"#,
                r#""warnings":[{"vertex":"random:aa","level":1,"short":"cw==","detail":["ZA=="],"#,
                r#""url":"u","sourceInfo":{"filename":"f","data":"eA=="},"#,
                r#""range":[{"start":{"line":1},"end":{"line":1,"character":2}}]}]}"#,
            )
        );
        assert_eq!(to_json(&SolveStatus::default()), "{}");
    }
}
