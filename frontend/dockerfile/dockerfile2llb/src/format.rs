//! Texts in the form in which Go writes values, as histories of images have them.

use std::time::Duration;

pub(crate) use buildkit_util_gotext::quoted;

/// A list of words as Go's `%v`.
pub(crate) fn words<S: AsRef<str>>(words: &[S]) -> String {
    format!("[{}]", words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "))
}

/// A list of words as Go's `%q`.
pub(crate) fn quoted_words<S: AsRef<str>>(list: &[S]) -> String {
    words(&list.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>())
}

/// A time span as Go's `%v`, such as `1m30s` or `1.5ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |value: u128, unit: u128| {
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return whole.to_string();
        }
        let digits = unit.ilog10() as usize;
        format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_go_does() {
        assert_eq!(quoted_words(&["a b", "c\"d\\\n\t\u{1}"]), r#"["a b" "c\"d\\\n\t\x01"]"#);
        assert_eq!(words::<&str>(&[]), "[]");
    }

    #[test]
    fn time_spans_are_written_as_go_does() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_500_000_000, "1h1m1.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), want);
        }
    }
}
