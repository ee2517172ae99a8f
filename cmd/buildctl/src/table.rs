//! Columns as Go's tabwriter aligns them.

/// What fills the space between columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// One space at least.
    Spaces,
    /// Tabs, to multiples of eight.
    Tabs,
}

const TAB: usize = 8;

/// Aligns lines whose cells end with tabs; what follows the last tab of a line is no cell. Cells of
/// consecutive lines that have one at the same place are equally wide.
pub(crate) fn align(text: &str, fill: Fill) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let has_cell = |line: usize, column: usize| {
        lines.get(line).is_some_and(|cells: &Vec<&str>| column + 1 < cells.len())
    };
    let mut out = String::new();
    for (number, cells) in lines.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if !has_cell(number, column) {
                continue;
            }
            let first = (0..=number).rev().take_while(|&line| has_cell(line, column)).last();
            let block = (first.unwrap_or(number)..).take_while(|&line| has_cell(line, column));
            let width = block.map(|line| lines[line][column].chars().count()).max().unwrap_or(0);
            let length = cell.chars().count();
            match fill {
                Fill::Spaces => out.push_str(&" ".repeat(width + 1 - length)),
                Fill::Tabs => {
                    let width = (width + 1).div_ceil(TAB) * TAB;
                    out.push_str(&"\t".repeat((width - length).div_ceil(TAB)));
                }
            }
        }
        out.push('\n');
    }
    out
}

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
    fn columns() {
        let text = "a\tbb\tc\nlonger than\tx\ty\n\nnew\tz\n";
        assert_eq!(align(text, Fill::Spaces), "a           bb c\nlonger than x  y\n\nnew z\n");
        assert_eq!(align(text, Fill::Tabs), "a\t\tbb\tc\nlonger than\tx\ty\n\nnew\tz\n");
    }

    #[test]
    fn sizes() {
        assert_eq!(size(1_980_000), "1.98MB");
        assert_eq!(size(12), "12B");
        assert_eq!(exact_size(10_500_000_000), "10.5GB");
    }
}
