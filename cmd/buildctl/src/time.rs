use prost_types::Timestamp;

/// Time in UTC as Go's JSON encoder writes it.
pub(crate) fn json(time: &Timestamp) -> String {
    let (date, clock, fraction) = parts(time);
    format!("{date}T{clock}{fraction}Z")
}

/// Time in UTC to the second, in RFC 3339.
pub(crate) fn seconds(time: &Timestamp) -> String {
    let (date, clock, _) = parts(time);
    format!("{date}T{clock}Z")
}

/// Time in UTC as Go prints it for people.
pub(crate) fn text(time: &Timestamp) -> String {
    let (date, clock, fraction) = parts(time);
    format!("{date} {clock}{fraction} +0000 UTC")
}

fn parts(time: &Timestamp) -> (String, String, String) {
    let text = time.to_string();
    let text = text.trim_end_matches('Z');
    let (date, clock) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let (clock, _) = clock.split_once('.').unwrap_or((clock, ""));
    let fraction = if time.nanos == 0 {
        String::new()
    } else {
        format!(".{:09}", time.nanos).trim_end_matches('0').to_owned()
    };
    (date.to_owned(), clock.to_owned(), fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let time = Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 };
        assert_eq!(json(&time), "2023-11-14T22:13:20.12Z");
        assert_eq!(text(&time), "2023-11-14 22:13:20.12 +0000 UTC");
        assert_eq!(seconds(&time), "2023-11-14T22:13:20Z");
        assert_eq!(json(&Timestamp { seconds: 0, nanos: 0 }), "1970-01-01T00:00:00Z");
    }
}
