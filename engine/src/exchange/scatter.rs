//! Rows to targets by key group: hash, histogram, one gather.
//!
//! A batch is permuted once so that the rows of each target are adjacent, and cut into slices; the
//! slices are copied together into full batches where they leave ([`super::output`]).

use arrow::array::{ArrayRef, UInt32Array};
use hurtig_graph::key_groups::{key_group_of_hash, subtask_of_key_group};
use hurtig_state::hash::hash_columns_into;

use crate::batch::Batch;
use crate::error::{EngineError, Result};

/// Distributes batches over the subtasks of a keyed consumer.
#[derive(Debug)]
pub struct Scatter {
    columns: Vec<usize>,
    targets: usize,
    max_parallelism: u32,
    /// Target of each key group.
    target_of_group: Vec<u32>,
    // Reused between batches.
    hashes: Vec<u64>,
    row_targets: Vec<u32>,
    offsets: Vec<u32>,
}

impl Scatter {
    /// By the columns at `columns` to `targets` subtasks that own `max_parallelism` key groups.
    pub fn new(columns: Vec<usize>, targets: usize, max_parallelism: u32) -> Scatter {
        let target_of_group =
            (0..max_parallelism).map(|g| subtask_of_key_group(max_parallelism, targets as u32, g)).collect();
        Scatter {
            columns,
            targets,
            max_parallelism,
            target_of_group,
            hashes: Vec::new(),
            row_targets: Vec::new(),
            offsets: Vec::new(),
        }
    }

    /// Calls `emit(target, rows)` for each target that gets rows of `batch`. The order of rows within
    /// a target is that of the batch.
    ///
    /// # Errors
    /// A key column that does not exist or cannot be hashed.
    pub fn scatter(&mut self, batch: &Batch, mut emit: impl FnMut(usize, Batch) -> Result<()>) -> Result<()> {
        if self.targets == 1 {
            return emit(0, batch.clone());
        }
        let mut keys: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for &column in &self.columns {
            let key = batch.records().columns().get(column).ok_or_else(|| {
                EngineError::Internal(format!(
                    "key column {column} of a batch with {} columns",
                    batch.records().num_columns()
                ))
            })?;
            keys.push(ArrayRef::clone(key));
        }
        hash_columns_into(&keys, batch.num_rows(), &mut self.hashes);
        self.offsets.clear();
        self.offsets.resize(self.targets + 1, 0);
        self.row_targets.clear();
        for &hash in &self.hashes {
            let target = self.target_of_group[key_group_of_hash(hash, self.max_parallelism) as usize];
            self.row_targets.push(target);
            self.offsets[target as usize + 1] += 1;
        }
        let rows = batch.num_rows() as u32;
        if let Some(only) = self.offsets.iter().skip(1).position(|&count| count == rows) {
            return emit(only, batch.clone());
        }
        for target in 0..self.targets {
            self.offsets[target + 1] += self.offsets[target];
        }
        let mut order = vec![0u32; self.row_targets.len()];
        let mut next = self.offsets.clone();
        for (row, &target) in self.row_targets.iter().enumerate() {
            let slot = &mut next[target as usize];
            order[*slot as usize] = row as u32;
            *slot += 1;
        }
        let sorted = batch.take(&UInt32Array::from(order))?;
        for target in 0..self.targets {
            let (start, end) = (self.offsets[target] as usize, self.offsets[target + 1] as usize);
            if start < end {
                emit(target, sorted.slice(start, end - start))?;
            }
        }
        Ok(())
    }
}
