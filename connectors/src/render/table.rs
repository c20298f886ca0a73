//! Rows as a plain table for terminals.

use hurtig_engine::Batch;
use hurtig_graph::RowSchema;

use super::changelog::{columns, text};
use crate::error::Result;
use crate::formats::column::Value;

/// Wider values are cut off.
const MAX_WIDTH: usize = 30;

/// Lays rows out in columns. Widths follow from the header and the first rows and then stay, so that
/// rows can be printed as they come.
pub struct TableRenderer {
    schema: RowSchema,
    /// A first column with the kind of change.
    show_kind: bool,
    widths: Vec<usize>,
}

impl TableRenderer {
    /// For rows of `schema`.
    pub fn new(schema: RowSchema, show_kind: bool) -> TableRenderer {
        TableRenderer { schema, show_kind, widths: Vec::new() }
    }

    /// Appends the rows of `batch`, before the first ones the header.
    pub fn rows(&mut self, batch: &Batch, out: &mut String) -> Result<()> {
        let lines = self.cells(batch)?;
        if self.widths.is_empty() {
            let mut names: Vec<String> = self.schema.fields.iter().map(|f| shorten(&f.name)).collect();
            if self.show_kind {
                names.insert(0, "op".into());
            }
            self.widths = (0..names.len())
                .map(|i| lines.iter().chain([&names]).map(|cells| cells[i].chars().count()).max().unwrap_or(0))
                .collect();
            self.line(&names, false, out);
            let rules: Vec<String> = self.widths.iter().map(|w| "-".repeat(*w)).collect();
            self.line(&rules, false, out);
        }
        for cells in &lines {
            self.line(cells, true, out);
        }
        Ok(())
    }

    fn cells(&self, batch: &Batch) -> Result<Vec<Vec<String>>> {
        let columns = columns(&self.schema, batch)?;
        let cell = |value: &Value<'_, '_>| {
            let mut bytes = Vec::new();
            text(value, &mut bytes);
            shorten(&String::from_utf8_lossy(&bytes))
        };
        Ok((0..batch.num_rows())
            .map(|row| {
                let kind = self.show_kind.then(|| batch.kind(row).symbol().to_owned());
                kind.into_iter().chain(columns.iter().map(|c| cell(&c.value(row)))).collect()
            })
            .collect())
    }

    fn line(&self, cells: &[String], values: bool, out: &mut String) {
        let first = usize::from(self.show_kind);
        for (i, cell) in cells.iter().enumerate() {
            if i > 0 {
                out.push_str("  ");
            }
            let padding = self.widths[i].saturating_sub(cell.chars().count());
            let field = i.checked_sub(first).and_then(|i| self.schema.fields.get(i));
            let number = field.is_some_and(|f| {
                f.data_type.logical.is_exact_numeric() || f.data_type.logical.is_approximate_numeric()
            });
            if number && values {
                out.extend(std::iter::repeat_n(' ', padding));
                out.push_str(cell);
            } else {
                out.push_str(cell);
                if i + 1 < cells.len() {
                    out.extend(std::iter::repeat_n(' ', padding));
                }
            }
        }
        out.push('\n');
    }
}

fn shorten(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= MAX_WIDTH {
        return clean;
    }
    clean.chars().take(MAX_WIDTH - 3).chain("...".chars()).collect()
}
