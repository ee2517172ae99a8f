use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A size in the decimal unit that fits, with two digits after the point; whole below 1 kB.
pub(crate) fn bytes(size: i64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = None;
    let mut scale: i128 = 1;
    for name in UNITS {
        if i128::from(size).abs() < scale * 1000 {
            break;
        }
        scale *= 1000;
        unit = Some(name);
    }
    match unit {
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        Some(unit) => format!("{:.2}{unit}", size as f64 / scale as f64),
        None => format!("{size}B"),
    }
}

/// `current / total`, `current` alone or nothing, as far as they are known.
pub(crate) fn progress(current: i64, total: i64) -> Option<String> {
    match (current, total) {
        (current, total) if total != 0 => Some(format!("{} / {}", bytes(current), bytes(total))),
        (0, _) => None,
        (current, _) => Some(bytes(current)),
    }
}

/// The beginning of a text that fits in as many columns.
pub(crate) fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// A text filled up with spaces to as many columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// Names and messages may hold anything; what moves the cursor must not reach the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (size, expect) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (1_980_000, "1.98MB"),
            (-1500, "-1.50kB"),
            (i64::MAX, "9.22EB"),
        ] {
            assert_eq!(bytes(size), expect);
        }
        assert_eq!(progress(5, 1000).as_deref(), Some("5B / 1.00kB"));
        assert_eq!(progress(0, 0), None);
    }

    #[test]
    fn columns() {
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("abc", 9), "abc");
        assert_eq!(pad("日", 4), "日  ");
    }
}
