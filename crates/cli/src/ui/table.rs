//! Columns of text, as wide as what is in them.

use std::io::{self, Write};

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the heading and the rows. Columns with nothing in them are left out.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let cell = |row: &[String], i: usize| row.get(i).map_or("", String::as_str).to_owned();
        let shown: Vec<_> = (0..self.columns.len())
            .filter(|i| self.rows.iter().any(|row| !cell(row, *i).is_empty()))
            .collect();
        let heading: Vec<_> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows = || std::iter::once(&heading).chain(&self.rows);
        let width = |i: usize| rows().map(|row| cell(row, i).chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = shown.iter().map(|i| width(*i)).collect();
        for row in rows() {
            let mut line = String::new();
            for (i, width) in shown.iter().zip(&widths) {
                let text = cell(row, *i);
                let space = " ".repeat(width.saturating_sub(text.chars().count()));
                match self.columns.get(*i).map(|(_, align)| align) {
                    Some(Align::Right) => line.extend([space.as_str(), text.as_str(), "  "]),
                    _ => line.extend([text.as_str(), space.as_str(), "  "]),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() -> io::Result<()> {
        let mut table =
            Table::new(&[("ID", Align::Left), ("X", Align::Left), ("SIZE", Align::Right)]);
        table.add(vec!["a".into(), String::new(), "1 B".into()]);
        table.add(vec!["bcd".into(), String::new(), "10 KiB".into()]);
        let mut out = Vec::new();
        table.write(&mut out)?;
        let expected = "ID     SIZE\na       1 B\nbcd  10 KiB\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        Ok(())
    }
}
