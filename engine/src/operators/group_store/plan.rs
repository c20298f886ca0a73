//! What an aggregation computes: keys and calls, bound to the columns of its input.

use arrow::array::RecordBatch;
use hurtig_graph::{RowField, RowSchema};
use hurtig_proto::v1;

use crate::aggregates::BoundCall;
use crate::aggregates::columns::int_values;
use crate::error::{EngineError, Result};
use crate::operators::keys::KeyLayout;

/// What an aggregation computes, shared by all its stores.
#[derive(Debug)]
pub struct AggregatePlan {
    /// The group key.
    pub keys: KeyLayout,
    /// The key columns of the output.
    pub key_fields: Vec<RowField>,
    /// The aggregate calls.
    pub calls: Vec<BoundCall>,
    /// Rows may be taken back: groups count their rows.
    pub retracts: bool,
    /// The column with the number of rows that an input row stands for (behind a LOCAL phase).
    pub row_count_column: Option<usize>,
    /// Groups remember when they changed last.
    pub timed: bool,
}

impl AggregatePlan {
    /// Of an operator over rows of `input`. For the GLOBAL phase `aggregate_input` is the schema
    /// before the LOCAL phase.
    ///
    /// # Errors
    /// Keys or calls that do not fit the input.
    pub fn new(
        keys: &[u32],
        calls: &[v1::AggregateCall],
        phase: v1::AggregatePhase,
        input: &RowSchema,
        aggregate_input: Option<&RowSchema>,
        retracts: bool,
    ) -> Result<AggregatePlan> {
        let mut key_fields = Vec::new();
        for &key in keys {
            key_fields.push(input.fields.get(key as usize).cloned().ok_or_else(|| {
                EngineError::Validation(format!("key column {key} does not exist: the input has {}", input.len()))
            })?);
        }
        let types = key_fields.iter().map(|f| f.data_type.logical.to_arrow()).collect();
        let mut bound = Vec::new();
        let mut next = keys.len();
        for call in calls {
            bound.push(if phase == v1::AggregatePhase::Global {
                let before = aggregate_input.ok_or_else(|| {
                    EngineError::Validation("a GLOBAL aggregate needs aggregate_input, the schema before LOCAL".into())
                })?;
                let call = BoundCall::bind(call, before, retracts)?.after_local(next)?;
                next += call.columns.len();
                call
            } else {
                BoundCall::bind(call, input, retracts)?
            });
        }
        if phase == v1::AggregatePhase::Global && input.len() < next + usize::from(retracts) {
            return Err(EngineError::Validation(format!(
                "a GLOBAL aggregate needs {} columns from its LOCAL phase, but its input has {}",
                next + usize::from(retracts),
                input.len()
            )));
        }
        let global_rows = phase == v1::AggregatePhase::Global && retracts;
        Ok(AggregatePlan {
            keys: KeyLayout::new(keys.iter().map(|&k| k as usize).collect(), types)?,
            key_fields,
            calls: bound,
            retracts,
            row_count_column: global_rows.then_some(next),
            timed: false,
        })
    }

    /// The columns of keys and results.
    pub fn output_fields(&self) -> Vec<RowField> {
        self.key_fields.iter().cloned().chain(self.calls.iter().map(|c| c.field.clone())).collect()
    }

    /// The types of the key columns as state declares them.
    pub fn key_schema(&self) -> String {
        self.key_fields.iter().map(|f| f.data_type.logical.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The accumulators as state declares them.
    pub fn value_schema(&self) -> String {
        let calls = self.calls.iter().map(|call| call.declaration.clone());
        calls.chain(self.retracts.then(|| "rows".to_owned())).collect::<Vec<_>>().join(", ")
    }

    /// The rows that each input row stands for; `None`: one each.
    pub fn row_changes(&self, batch: &RecordBatch, signs: Option<&[i8]>) -> Result<Option<Vec<i64>>> {
        if let Some(column) = self.row_count_column {
            return Ok(Some(int_values(batch.column(column))?.0.to_vec()));
        }
        Ok(signs.map(|signs| signs.iter().map(|&s| i64::from(s)).collect()))
    }
}
