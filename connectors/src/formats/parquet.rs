//! The parquet format: options, and fitting what a file holds to the columns of a table.
//!
//! Columns go by name; one that the file lacks is NULL. What differs in representation (view and
//! dictionary types, other integer widths, other timestamp units, 96-bit timestamps) is converted
//! here, once a batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType as ArrowType;
use hurtig_graph::LogicalType;
use hurtig_graph::config::{ConfigOption, ValueType};
use parquet::basic::{Compression, ZstdLevel};

use crate::error::{Error, Result};
use crate::options::{TableOptions, option};

const COMPRESSION: ConfigOption = option(
    "parquet.compression",
    ValueType::Enum(&["SNAPPY", "ZSTD", "UNCOMPRESSED"]),
    Some("SNAPPY"),
    "How written files are compressed.",
);
const BATCH_SIZE: ConfigOption =
    option("parquet.batch-size", ValueType::Int, Some("8192"), "Rows that are read at once.");

/// All options.
pub const OPTIONS: &[ConfigOption] = &[COMPRESSION, BATCH_SIZE];

/// Options of the parquet format.
#[derive(Debug, Clone)]
pub struct ParquetOptions {
    /// Of written files.
    pub compression: Compression,
    /// Rows that are read at once.
    pub batch_rows: usize,
}

impl ParquetOptions {
    /// Reads the options of a table.
    pub fn read(table: &TableOptions) -> Result<ParquetOptions> {
        Ok(ParquetOptions {
            compression: match table.word(&COMPRESSION)? {
                "SNAPPY" => Compression::SNAPPY,
                "ZSTD" => Compression::ZSTD(ZstdLevel::default()),
                _ => Compression::UNCOMPRESSED,
            },
            batch_rows: table.count(&BATCH_SIZE)?.unwrap_or(8192).clamp(1, 65_536) as usize,
        })
    }
}

/// Whether a column of this type can be read and written; otherwise why not.
pub fn supports(ty: &LogicalType) -> std::result::Result<(), String> {
    match ty {
        LogicalType::IntervalYearMonth | LogicalType::IntervalDayTime => Err("parquet has no such intervals".into()),
        LogicalType::Null => Err("a column needs a type".into()),
        LogicalType::Array(element) => supports(&element.logical),
        LogicalType::Map(key, value) => supports(&key.logical).and_then(|()| supports(&value.logical)),
        LogicalType::Multiset(element) => supports(&element.logical),
        LogicalType::Row(fields) if fields.is_empty() => Err("parquet has no rows without fields".into()),
        LogicalType::Row(fields) => fields.iter().try_for_each(|(_, field)| supports(&field.logical)),
        _ => Ok(()),
    }
}

/// `array` as values of `target`, fields of rows by name.
///
/// # Errors
/// A message when there is no such conversion or a value does not fit.
pub fn adapt(array: &ArrayRef, target: &ArrowType) -> std::result::Result<ArrayRef, String> {
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), target) {
        (ArrowType::Struct(found), ArrowType::Struct(wanted)) => {
            let rows = array.as_struct();
            let columns = wanted.iter().map(|field| match found.find(field.name()) {
                Some((i, _)) => {
                    adapt(rows.column(i), field.data_type()).map_err(|e| format!("field '{}': {e}", field.name()))
                }
                None => Ok(new_null_array(field.data_type(), rows.len())),
            });
            let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
            StructArray::try_new_with_length(wanted.clone(), columns, rows.nulls().cloned(), rows.len())
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| e.to_string())
        }
        (ArrowType::List(_), ArrowType::List(wanted)) => {
            let list = array.as_list::<i32>();
            let values = adapt(list.values(), wanted.data_type())?;
            ListArray::try_new(Arc::clone(wanted), list.offsets().clone(), values, list.nulls().cloned())
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| e.to_string())
        }
        (ArrowType::Map(..), ArrowType::Map(wanted, _)) => {
            let map = array.as_map();
            let ArrowType::Struct(fields) = wanted.data_type() else {
                return Err("the entries of a map are not a struct".into());
            };
            let columns = vec![adapt(map.keys(), fields[0].data_type())?, adapt(map.values(), fields[1].data_type())?];
            let entries = StructArray::try_new_with_length(fields.clone(), columns, None, map.entries().len())
                .map_err(|e| e.to_string())?;
            MapArray::try_new(Arc::clone(wanted), map.offsets().clone(), entries, map.nulls().cloned(), false)
                .map(|a| Arc::new(a) as ArrayRef)
                .map_err(|e| e.to_string())
        }
        (found, _) if !convertible(found, target) => Err(format!("the file holds {found}, the table wants {target}")),
        _ => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, target, &options).map_err(|e| e.to_string())
        }
    }
}

/// Whether a conversion keeps the meaning of values: within numbers, texts, bytes, times.
fn convertible(found: &ArrowType, target: &ArrowType) -> bool {
    let text = |t: &ArrowType| matches!(t, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View);
    let bytes = |t: &ArrowType| {
        matches!(t, ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_))
    };
    let decimal = |t: &ArrowType| {
        matches!(
            t,
            ArrowType::Decimal32(..) | ArrowType::Decimal64(..) | ArrowType::Decimal128(..) | ArrowType::Decimal256(..)
        )
    };
    let number = |t: &ArrowType| t.is_numeric() || decimal(t);
    match (found, target) {
        (ArrowType::Dictionary(_, values), _) => convertible(values, target),
        (ArrowType::Null, _) => true,
        (f, t) if text(f) => text(t) || bytes(t),
        (f, t) if bytes(f) => bytes(t) || text(t),
        (f, t) if number(f) => number(t) && (f.is_integer() || !t.is_integer()),
        (ArrowType::Date32 | ArrowType::Date64, ArrowType::Date32 | ArrowType::Timestamp(..)) => true,
        (ArrowType::Time32(_) | ArrowType::Time64(_), ArrowType::Time32(_)) => true,
        (ArrowType::Timestamp(..), ArrowType::Timestamp(..)) => true,
        (f, t) => f == t,
    }
}

/// `array` of column `name` as values of the logical type `ty`.
pub fn adapt_column(array: &ArrayRef, name: &str, ty: &LogicalType) -> Result<ArrayRef> {
    adapt(array, &ty.to_arrow()).map_err(|reason| Error::Data(format!("column '{name}' as {ty}: {reason}")))
}
