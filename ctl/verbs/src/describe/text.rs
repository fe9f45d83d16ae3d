//! Lines with tabs, aligned as Go's text/tabwriter aligns them.
//!
//! Owns: [`Text`], the writer that describers fill, and [`tabulate`]. A column is a run of
//! consecutive lines that have a cell in it, so that unrelated paragraphs do not widen each other.
//! kubectl's settings: minimum width 0, padding 2, spaces.

/// A description under construction.
#[derive(Default)]
pub(super) struct Text {
    raw: String,
}

impl Text {
    /// A line at an indentation level; cells are separated by tabs.
    pub(super) fn line(&mut self, level: usize, text: impl std::fmt::Display) {
        self.raw.push_str(&"  ".repeat(level));
        self.raw.push_str(&text.to_string());
        self.raw.push('\n');
    }

    /// `Title:` and a value in the next column.
    pub(super) fn pair(&mut self, level: usize, title: &str, value: impl std::fmt::Display) {
        self.line(level, format_args!("{title}:\t{value}"));
    }

    /// `Title:` and values below each other in the next column; `<none>` without any.
    pub(super) fn list(&mut self, title: &str, values: impl IntoIterator<Item = String>) {
        let mut title = format!("{title}:");
        let mut any = false;
        for value in values {
            self.line(0, format_args!("{title}\t{value}"));
            title.clear();
            any = true;
        }
        if !any {
            self.line(0, format_args!("{title}\t<none>"));
        }
    }

    /// The text with its tabs.
    pub(super) fn raw(self) -> String {
        self.raw
    }

    /// The aligned text.
    pub(super) fn render(&self) -> String {
        tabulate(&self.raw)
    }
}

/// Aligns the tab-separated cells of lines.
pub(super) fn tabulate(raw: &str) -> String {
    let lines: Vec<Vec<&str>> = raw.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::new();
    block(&lines, &mut Vec::new(), &mut out);
    out
}

const PADDING: usize = 2;

/// Writes lines whose first columns have the given widths; finds the runs of the next column.
fn block(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let mut at = 0;
    while at < lines.len() {
        // The last cell of a line is not part of a column.
        let has_cell = |line: &Vec<&str>| column + 1 < line.len();
        if !has_cell(&lines[at]) {
            write(&lines[at], widths, out);
            at += 1;
            continue;
        }
        let run = lines[at..].iter().take_while(|line| has_cell(line)).count();
        let width = lines[at..at + run].iter().map(|l| l[column].chars().count() + PADDING).max();
        widths.push(width.unwrap_or(PADDING));
        block(&lines[at..at + run], widths, out);
        widths.pop();
        at += run;
    }
}

fn write(cells: &[&str], widths: &[usize], out: &mut String) {
    for (i, cell) in cells.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(i) {
            let fill = width.saturating_sub(cell.chars().count());
            out.extend(std::iter::repeat_n(' ', fill));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_run_of_lines() {
        assert_eq!(
            tabulate("Name:\ta\nNamespace:\tb\nList:\n  x:\ty\n"),
            "Name:       a\nNamespace:  b\nList:\n  x:  y\n"
        );
    }

    #[test]
    fn empty_cells_and_third_columns() {
        assert_eq!(
            tabulate("Labels:\ta=b\n\tc=d\nPort:\t<unset>\t80/TCP\nTargetPort:\t80/TCP\n"),
            "Labels:      a=b\n             c=d\nPort:        <unset>  80/TCP\nTargetPort:  80/TCP\n"
        );
    }
}
