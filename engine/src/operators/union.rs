//! Union: all inputs, as they come.

use hurtig_graph::RowSchema;

use crate::batch::Batch;
use crate::error::{EngineError, Result};
use crate::operator::{Collector, Flow, Operator, OperatorContext};

/// Merges inputs of equal types. Names are those of the first input.
pub struct Union {
    schema: arrow::datatypes::SchemaRef,
}

impl Union {
    /// Over `inputs`.
    ///
    /// # Errors
    /// Inputs of different types.
    pub fn new(inputs: &[RowSchema]) -> Result<Union> {
        let Some(first) = inputs.first() else {
            return Err(EngineError::Validation("a union needs an input, but no edge leads to it".into()));
        };
        let types = |s: &RowSchema| s.fields.iter().map(|f| f.data_type.logical.to_arrow()).collect::<Vec<_>>();
        for (port, input) in inputs.iter().enumerate() {
            if types(input) != types(first) {
                return Err(EngineError::Validation(format!(
                    "the inputs of a union must have equal types, but input {port} differs from input 0"
                )));
            }
        }
        Ok(Union { schema: first.to_arrow() })
    }
}

impl Operator for Union {
    fn open(&mut self, _context: OperatorContext) -> Result<()> {
        Ok(())
    }

    fn unites_inputs(&self) -> bool {
        true
    }

    fn process(&mut self, port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        if port == 0 {
            out.emit(batch);
        } else {
            let columns = batch.records().columns().to_vec();
            out.emit(batch.with_records(super::record_batch(&self.schema, columns, batch.num_rows())?));
        }
        Ok(Flow::Done)
    }
}
