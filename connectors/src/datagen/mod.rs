//! The `datagen` connector: random and sequential rows, with the options of Flink's.
//!
//! A row follows from its number and a seed that is chosen when the job starts and kept in its state:
//! a restart goes on with the same rows, another job has others. Timestamps without `max-past` are the
//! present.
//!
//! `generator` makes columns, `fields` reads the options `fields.<name>.<option>`, `source` is the
//! reader.

mod fields;
mod generator;
mod source;
#[cfg(test)]
mod tests;

use hurtig_engine::registry::SourceSpec;
use hurtig_engine::source::SourceReader;
use hurtig_graph::RowSchema;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_graph::connector::{ConnectorError, Options, SourceInfo};

use self::fields::FieldOptions;
use self::generator::Generator;
use crate::connector::SourceConnector;
use crate::error::{Error, Result};
use crate::options::{TableOptions, option};

const RATE: ConfigOption =
    option("rows-per-second", ValueType::Float, Some("10000"), "Rows a second, all subtasks together.");
const ROWS: ConfigOption =
    option("number-of-rows", ValueType::Int, None, "Number of rows. Unset: without end, unless a sequence ends.");

/// All options but those of fields.
pub const OPTIONS: &[ConfigOption] = &[RATE, ROWS];

/// What the options of a table say.
struct DatagenOptions {
    rows_per_second: f64,
    /// `None`: without end.
    rows: Option<u64>,
    /// One a column.
    generators: Vec<Generator>,
}

impl DatagenOptions {
    fn read(options: &Options, schema: &RowSchema) -> Result<DatagenOptions> {
        let table = TableOptions::new(options);
        table.reject_unknown(&[OPTIONS], &["fields."])?;
        let rows_per_second = table.float(&RATE)?.unwrap_or(10_000.0);
        if !(rows_per_second > 0.0 && rows_per_second.is_finite()) {
            return Err(Error::Validation(format!("{}: write a number above 0", RATE.key)));
        }
        let fields = FieldOptions::new(options);
        let mut generators = Vec::with_capacity(schema.len());
        for field in &schema.fields {
            generators.push(Generator::new(&fields, &format!("fields.{}", field.name), &field.data_type.logical)?);
        }
        fields.reject_unknown()?;
        let sequences = generators.iter().filter_map(Generator::length);
        let rows = table.count(&ROWS)?.into_iter().chain(sequences).min();
        Ok(DatagenOptions { rows_per_second, rows, generators })
    }
}

/// The connector.
pub struct DatagenConnector;

impl SourceConnector for DatagenConnector {
    fn info(&self, options: &Options, schema: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        let options = DatagenOptions::read(options, schema)?;
        Ok(SourceInfo { bounded: options.rows.is_some(), projection_pushdown: true, changelog: false })
    }

    fn reader(&self, spec: &SourceSpec) -> hurtig_engine::Result<Box<dyn SourceReader>> {
        Ok(Box::new(source::DatagenReader::new(DatagenOptions::read(&spec.options, &spec.schema)?, spec)))
    }
}
