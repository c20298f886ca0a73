//! Which cell has which table number. Numbers are given out once and persisted with every snapshot;
//! they never follow from the order of operators.

use hurtig_proto::v1::TableEntry;

use super::{CellDeclaration, TableId};
use crate::error::{Result, StateError};

/// The registered and restored cells of one task.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    entries: Vec<TableEntry>,
}

impl Tables {
    /// The number of a cell: its restored one, else a new one.
    pub(super) fn register(&mut self, operator_uid: &str, cell: &CellDeclaration) -> Result<TableId> {
        let declared = TableEntry {
            operator_uid: operator_uid.to_owned(),
            cell: cell.name.clone(),
            table: 0,
            key_schema: cell.key_schema.clone(),
            value_schema: cell.value_schema.clone(),
            schema_version: u32::from(cell.schema_version),
        };
        if let Some(known) = self.find(operator_uid, &cell.name) {
            let same = TableEntry { table: known.table, ..declared.clone() } == *known;
            return if same { table_id(known.table) } else { Err(differs(known, &declared)) };
        }
        self.add(declared)
    }

    /// Takes over the cells of a snapshot. Returns for each its number there and its number here.
    pub(super) fn merge(&mut self, entries: &[TableEntry]) -> Result<Vec<(TableId, TableId)>> {
        let mut numbers = Vec::with_capacity(entries.len());
        for entry in entries {
            let here = match self.find(&entry.operator_uid, &entry.cell) {
                Some(known) if (TableEntry { table: known.table, ..entry.clone() }) == *known => table_id(known.table)?,
                Some(known) => return Err(differs(known, entry)),
                // Keeps its number where that is free, so that files need not be rewritten.
                None if self.entries.iter().all(|e| e.table != entry.table) => {
                    self.entries.push(entry.clone());
                    table_id(entry.table)?
                }
                None => self.add(entry.clone())?,
            };
            numbers.push((table_id(entry.table)?, here));
        }
        Ok(numbers)
    }

    /// All cells, in the order of their numbers.
    pub(super) fn entries(&self) -> Vec<TableEntry> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|e| e.table);
        entries
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, operator_uid: &str, cell: &str) -> Option<&TableEntry> {
        self.entries.iter().find(|e| e.operator_uid == operator_uid && e.cell == cell)
    }

    fn add(&mut self, entry: TableEntry) -> Result<TableId> {
        let table = self.entries.iter().map(|e| e.table + 1).max().unwrap_or(0);
        let id = table_id(table)?;
        self.entries.push(TableEntry { table, ..entry });
        Ok(id)
    }
}

pub(super) fn table_id(number: u32) -> Result<TableId> {
    TableId::try_from(number)
        .map_err(|_| StateError::Incompatible(format!("a task has at most 65536 state cells, found number {number}")))
}

fn differs(restored: &TableEntry, declared: &TableEntry) -> StateError {
    let show =
        |e: &TableEntry| format!("key ({}), value ({}), version {}", e.key_schema, e.value_schema, e.schema_version);
    StateError::Incompatible(format!(
        "state cell '{}' of operator '{}' does not fit the restored state: the checkpoint has {}, the job declares {}; \
         give the operator another uid to start it without state",
        declared.cell,
        declared.operator_uid,
        show(restored),
        show(declared)
    ))
}
