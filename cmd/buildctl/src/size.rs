//! Sizes for people.

/// A size in the decimal unit that fits, with two digits after the point; whole below 1 kB.
pub(crate) fn size(bytes: i64) -> String {
    match unit(bytes) {
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        Some((scale, unit)) => format!("{:.2}{unit}", bytes as f64 / scale as f64),
        None => format!("{bytes}B"),
    }
}

/// A size with as many digits as it has.
pub(crate) fn exact_size(bytes: i64) -> String {
    match unit(bytes) {
        #[expect(clippy::cast_precision_loss, reason = "more digits are not shown")]
        Some((scale, unit)) => format!("{}{unit}", bytes as f64 / scale as f64),
        None => format!("{bytes}B"),
    }
}

fn unit(bytes: i64) -> Option<(i128, &'static str)> {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut found = None;
    let mut scale: i128 = 1;
    for unit in UNITS {
        scale *= 1000;
        if i128::from(bytes).abs() < scale {
            break;
        }
        found = Some((scale, unit));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(1_980_000), "1.98MB");
        assert_eq!(size(12), "12B");
        assert_eq!(exact_size(10_500_000_000), "10.5GB");
    }
}
