//! Formats: how rows are written as bytes.
//!
//! | module | what |
//! | --- | --- |
//! | [`calendar`] | dates and times as text |
//! | [`scalar`] | numbers, decimals and base64 as text |
//! | [`column`] | reading single values out of Arrow columns |
//! | [`decoder`] | from text to columns, in two passes |
//! | [`json`], [`csv`], [`parquet`] | the formats |

pub mod calendar;
pub mod column;
pub mod csv;
pub mod decoder;
pub mod json;
pub mod parquet;
#[cfg(test)]
mod properties;
pub mod scalar;

use hurtig_graph::RowSchema;
use hurtig_graph::config::{ConfigOption, ValueType};
use hurtig_graph::connector::Options;

use crate::error::{Error, Result};
use crate::options::{DOCS_PAGE, TableOptions, option};

/// The option that names the format.
pub const FORMAT: ConfigOption =
    option("format", ValueType::String, None, "csv, json, parquet, or one of the formats of change messages.");

/// Formats that Flink has and Hurtig does not have yet.
const NOT_BUILT: &[&str] = &["avro", "avro-confluent", "debezium-avro-confluent", "orc", "protobuf", "raw"];

/// A format with its options.
#[derive(Debug, Clone)]
pub enum Format {
    /// One JSON object a line.
    Json(json::JsonOptions),
    /// Separated values.
    Csv(csv::CsvOptions),
    /// Apache Parquet.
    Parquet(parquet::ParquetOptions),
    /// Change messages, one JSON object a line.
    Changes(json::change::ChangeOptions),
}

impl Format {
    /// The format that `options` name.
    pub fn from_options(options: &Options) -> Result<Format> {
        let table = TableOptions::new(options);
        let name = table.required(&FORMAT)?;
        if let Some(changes) = json::change::ChangeOptions::read(name, options)? {
            return Ok(Format::Changes(changes));
        }
        match name {
            "json" => Ok(Format::Json(json::JsonOptions::read(&table)?)),
            "csv" => Ok(Format::Csv(csv::CsvOptions::read(&table)?)),
            "parquet" => Ok(Format::Parquet(parquet::ParquetOptions::read(&table)?)),
            other if NOT_BUILT.contains(&other) => {
                Err(Error::Unsupported(format!("format '{other}' is not supported yet: {DOCS_PAGE} lists what is")))
            }
            other => Err(Error::Validation(format!(
                "could not find any format for identifier '{other}'; available identifiers are canal-json, csv, \
                 debezium-json, json, maxwell-json, ogg-json, parquet"
            ))),
        }
    }

    /// Its name, which prefixes its options.
    pub fn name(&self) -> &'static str {
        match self {
            Format::Json(_) => "json",
            Format::Csv(_) => "csv",
            Format::Parquet(_) => "parquet",
            Format::Changes(changes) => changes.dialect.name(),
        }
    }

    /// Checks that all columns of a table can be read and written.
    pub fn check(&self, schema: &RowSchema) -> Result<()> {
        for field in &schema.fields {
            let supported = match self {
                Format::Json(_) | Format::Changes(_) => json::supports(&field.data_type.logical),
                Format::Csv(_) => csv::supports(&field.data_type.logical),
                Format::Parquet(_) => parquet::supports(&field.data_type.logical),
            };
            supported.map_err(|what| {
                Error::Unsupported(format!(
                    "format '{}' does not support the type of column '{}', {}: {what}",
                    self.name(),
                    field.name,
                    field.data_type
                ))
            })?;
        }
        Ok(())
    }
}
