//! NOT NULL at sinks: `table.exec.sink.not-null-enforcer`.

use arrow::array::{Array, BooleanArray};
use arrow::buffer::NullBuffer;
use hurtig_engine::operator::{Collector, Flow, Operator, OperatorContext, OperatorSnapshot};
use hurtig_engine::{Batch, EngineError, Result};
use hurtig_graph::RowSchema;
use hurtig_graph::config::Configuration;
use hurtig_graph::config::keys::NOT_NULL_ENFORCER;

/// Checks rows against the NOT NULL columns of a table.
pub struct NotNullEnforcer {
    /// Position and name.
    columns: Vec<(usize, String)>,
    drop: bool,
}

impl NotNullEnforcer {
    /// For rows of `schema`.
    ///
    /// # Errors
    /// When the configuration has another value than ERROR or DROP.
    pub fn new(schema: &RowSchema, configuration: &Configuration) -> Result<NotNullEnforcer> {
        let mode = configuration.text(&NOT_NULL_ENFORCER).unwrap_or("ERROR").to_owned();
        let drop = mode.eq_ignore_ascii_case("DROP");
        if !drop && !mode.eq_ignore_ascii_case("ERROR") {
            let key = NOT_NULL_ENFORCER.key;
            return Err(EngineError::Validation(format!("{key}: '{mode}' is not one of ERROR, DROP")));
        }
        let fields = schema.fields.iter().enumerate().filter(|(_, f)| !f.data_type.nullable);
        Ok(NotNullEnforcer { columns: fields.map(|(i, f)| (i, f.name.clone())).collect(), drop })
    }

    /// The rows that may be written.
    ///
    /// # Errors
    /// A NULL in a NOT NULL column, unless rows are to be dropped.
    pub fn apply(&self, batch: Batch) -> Result<Batch> {
        let mut nulls: Option<NullBuffer> = None;
        for (index, name) in &self.columns {
            let column = batch.column(*index);
            if column.null_count() == 0 {
                continue;
            }
            if !self.drop {
                return Err(EngineError::Runtime(format!(
                    "column '{name}' is NOT NULL, however, a null value is being written into it: set \
                     '{}' = 'DROP' to leave such rows out",
                    NOT_NULL_ENFORCER.key
                )));
            }
            nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
        }
        match nulls {
            None => Ok(batch),
            Some(valid) => batch.filter(&BooleanArray::new(valid.inner().clone(), None)),
        }
    }
}

/// A sink whose rows are checked before they reach it.
pub struct Enforced<S> {
    inner: S,
    schema: RowSchema,
    enforcer: Option<NotNullEnforcer>,
}

impl<S: Operator> Enforced<S> {
    /// `inner` writes rows of `schema`.
    pub fn new(inner: S, schema: RowSchema) -> Self {
        Enforced { inner, schema, enforcer: None }
    }
}

impl<S: Operator> Operator for Enforced<S> {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        self.enforcer = Some(NotNullEnforcer::new(&self.schema, &context.configuration)?);
        self.inner.open(context)
    }

    fn process(&mut self, port: usize, batch: Batch, out: &mut dyn Collector) -> Result<Flow> {
        let batch = match &self.enforcer {
            Some(enforcer) => enforcer.apply(batch)?,
            None => batch,
        };
        if batch.is_empty() {
            return Ok(Flow::Done);
        }
        self.inner.process(port, batch, out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        self.inner.resume(out)
    }

    fn watermark(&mut self, watermark_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        self.inner.watermark(watermark_ms, out)
    }

    fn idle(&mut self, idle: bool, out: &mut dyn Collector) -> Result<()> {
        self.inner.idle(idle, out)
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.inner.next_timer_ms()
    }

    fn timers(&mut self, now_ms: i64, out: &mut dyn Collector) -> Result<Flow> {
        self.inner.timers(now_ms, out)
    }

    fn coordinator_message(&mut self, payload: &[u8]) -> Result<()> {
        self.inner.coordinator_message(payload)
    }

    fn prepare_barrier(&mut self, checkpoint: u64, out: &mut dyn Collector) -> Result<()> {
        self.inner.prepare_barrier(checkpoint, out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<OperatorSnapshot> {
        self.inner.snapshot(checkpoint)
    }

    fn checkpoint_complete(&mut self, checkpoint: u64) -> Result<()> {
        self.inner.checkpoint_complete(checkpoint)
    }

    fn checkpoint_aborted(&mut self, checkpoint: u64) -> Result<()> {
        self.inner.checkpoint_aborted(checkpoint)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Flow> {
        self.inner.finish(out)
    }

    fn quiescent(&self) -> bool {
        self.inner.quiescent()
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{json_rows, schema};

    fn enforce(mode: Option<&str>) -> Result<Batch> {
        let schema = schema("a INT NOT NULL, b STRING, c INT NOT NULL");
        let mut configuration = Configuration::default();
        if let Some(mode) = mode {
            configuration.set(NOT_NULL_ENFORCER.key, mode);
        }
        let rows = json_rows(&schema, "{\"a\":1,\"c\":1}\n{\"b\":\"x\",\"c\":2}\n{\"a\":3}\n{\"a\":4,\"c\":4}");
        NotNullEnforcer::new(&schema, &configuration)?.apply(Batch::inserts(rows))
    }

    #[test]
    fn a_null_in_a_not_null_column_fails_or_drops_the_row() {
        let error = enforce(None).unwrap_err().to_string();
        assert!(error.contains("'a'") && error.contains("DROP"), "{error}");
        assert_eq!(enforce(Some("drop")).unwrap().num_rows(), 2);
        assert!(enforce(Some("maybe")).is_err());
    }
}
