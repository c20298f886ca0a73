//! The `print` sink: one line a row on standard output, as Flink writes it.

use std::io::Write;

use hurtig_engine::operator::{Collector, Flow, Operator, OperatorContext};
use hurtig_engine::registry::SinkSpec;
use hurtig_engine::{Batch, EngineError, Result};
use hurtig_graph::RowSchema;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_graph::connector::{ConnectorError, Options, SinkInfo};

use crate::connector::SinkConnector;
use crate::enforcer::Enforced;
use crate::options::{TableOptions, option};
use crate::render::java;

const IDENTIFIER: ConfigOption = option("print-identifier", ValueType::String, None, "Stands in front of every line.");
const STANDARD_ERROR: ConfigOption =
    option("standard-error", ValueType::Bool, Some("false"), "Write to standard error instead.");

/// All options.
pub const OPTIONS: &[ConfigOption] = &[IDENTIFIER, STANDARD_ERROR];

/// The connector.
pub struct PrintConnector;

impl SinkConnector for PrintConnector {
    fn info(&self, options: &Options, _schema: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        let table = TableOptions::new(options);
        table.bool(&STANDARD_ERROR)?;
        table.reject_unknown(&[OPTIONS], &[])?;
        Ok(SinkInfo { accepts_updates: true, wants_update_before: true })
    }

    fn writer(&self, spec: &SinkSpec) -> Result<Box<dyn Operator>> {
        let table = TableOptions::new(&spec.options);
        let writer = PrintWriter {
            schema: spec.schema.clone(),
            identifier: table.text(&IDENTIFIER).unwrap_or_default().to_owned(),
            standard_error: table.bool(&STANDARD_ERROR)?,
            prefix: String::new(),
        };
        Ok(Box::new(Enforced::new(writer, spec.schema.clone())))
    }
}

struct PrintWriter {
    schema: RowSchema,
    identifier: String,
    standard_error: bool,
    prefix: String,
}

/// `id:2> `, without what is not there.
fn prefix(identifier: &str, subtask: u32, parallelism: u32) -> String {
    match (identifier.is_empty(), parallelism > 1) {
        (true, false) => String::new(),
        (true, true) => format!("{}> ", subtask + 1),
        (false, false) => format!("{identifier}> "),
        (false, true) => format!("{identifier}:{}> ", subtask + 1),
    }
}

impl Operator for PrintWriter {
    fn open(&mut self, context: OperatorContext) -> Result<()> {
        self.prefix = prefix(&self.identifier, context.task.attempt.subtask, context.task.parallelism);
        Ok(())
    }

    fn process(&mut self, _port: usize, batch: Batch, _out: &mut dyn Collector) -> Result<Flow> {
        let mut lines = Vec::new();
        java::write_rows(&self.schema, &batch, &self.prefix, &mut lines)?;
        let written = if self.standard_error {
            std::io::stderr().lock().write_all(&lines)
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(&lines).and_then(|()| out.flush())
        };
        written.map_err(|source| EngineError::Io { context: "print sink".into(), source })?;
        Ok(Flow::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_has_the_subtask_only_if_there_are_several() {
        assert_eq!(prefix("", 0, 1), "");
        assert_eq!(prefix("", 0, 2), "1> ");
        assert_eq!(prefix("out", 0, 1), "out> ");
        assert_eq!(prefix("out", 2, 4), "out:3> ");
    }
}
