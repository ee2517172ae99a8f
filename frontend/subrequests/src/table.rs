/// Aligns lines whose cells end with tabs; what follows the last tab of a line is no cell. Cells of consecutive
/// lines that have one at the same place are equally wide, with `gap` spaces after the longest: what Go's
/// tabwriter makes of them.
pub(crate) fn align(lines: &[String], gap: usize) -> String {
    let lines: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    // Widths of the columns of the block that each line belongs to.
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let length = widths[start..].iter().take_while(|widths| column < widths.len()).count();
            let block = start..start + length;
            let width = lines[block.clone()].iter().map(|cells| cells[column].chars().count()).max();
            for line in &mut widths[block] {
                line[column] = width.unwrap_or(0);
            }
            start += length.max(1);
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(column) {
                out.push_str(&" ".repeat(width + gap - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let lines = ["a\tbb\tc", "longer than\tx\ty", "", "new\tz", "é\tz"].map(str::to_owned);
        assert_eq!(align(&lines, 1), "a           bb c\nlonger than x  y\n\nnew z\né   z\n");
        assert_eq!(align(&lines[3..], 3), "new   z\né     z\n");
        assert_eq!(align(&[], 1), "");
    }
}
