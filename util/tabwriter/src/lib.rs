//! Aligns the columns of tables as Go's tabwriter does.
//!
//! ```
//! use buildkit_util_tabwriter::{Fill, align};
//!
//! let table = "NAME\tDESCRIPTION\nbase\tcompiler and tools\n";
//! assert_eq!(align(table, Fill::Spaces(1)), "NAME DESCRIPTION\nbase compiler and tools\n");
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

/// What fills the space between columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// So many spaces behind the longest cell.
    Spaces(usize),
    /// Tabs, to multiples of eight, with one column of space at least.
    Tabs,
}

const TAB: usize = 8;

/// Aligns the lines of `text`, whose cells end with tabs; what follows the last tab of a line is no cell. Cells
/// of consecutive lines that have one at the same place are equally wide. Each line gets a line end.
pub fn align(text: &str, fill: Fill) -> String {
    let lines: Vec<Vec<&str>> = text.split_terminator('\n').map(|line| line.split('\t').collect()).collect();
    let widths = widths(&lines);
    let mut out = String::with_capacity(text.len());
    for (cells, widths) in lines.iter().zip(&widths) {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            let Some(&width) = widths.get(column) else { continue };
            let length = cell.chars().count();
            let (character, count) = match fill {
                Fill::Spaces(gap) => (' ', width + gap - length),
                Fill::Tabs => ('\t', ((width + 1).next_multiple_of(TAB) - length).div_ceil(TAB)),
            };
            out.extend(std::iter::repeat_n(character, count));
        }
        out.push('\n');
    }
    out
}

/// For each line the widths of its cells, which are those of the longest in the block of lines.
fn widths(lines: &[Vec<&str>]) -> Vec<Vec<usize>> {
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
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let text = "a\tbb\tc\nlonger than\tx\ty\n\nnew\tz\né\tz\n";
        assert_eq!(align(text, Fill::Spaces(1)), "a           bb c\nlonger than x  y\n\nnew z\né   z\n");
        assert_eq!(align("new\tz\né\tz\n", Fill::Spaces(3)), "new   z\né     z\n");
        assert_eq!(align(text, Fill::Tabs), "a\t\tbb\tc\nlonger than\tx\ty\n\nnew\tz\né\tz\n");
        assert_eq!(align("1234567\tx\n12345678\tx\n", Fill::Tabs), "1234567\t\tx\n12345678\tx\n");
        assert_eq!(align("", Fill::Tabs), "");
    }
}
