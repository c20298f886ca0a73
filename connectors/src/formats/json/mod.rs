//! The json format: one object a line, by Flink's rules.
//!
//! Missing fields are NULL, unknown ones are skipped, names are case-sensitive, scalars are lenient
//! (`"2"` is an INT, `5` a STRING). Unlike Flink, text behind the object of a line is an error.

pub mod change;
mod decode;
mod encode;
pub mod scan;
#[cfg(test)]
mod tests;

pub use decode::JsonDecoder;
pub use encode::{JsonEncoder, write_string};

use hurtig_graph::LogicalType;
use hurtig_graph::config::{ConfigOption, ValueType};

use super::calendar::TimestampStyle;
use crate::error::{Error, Result};
use crate::options::{TableOptions, option};

const FAIL_ON_MISSING_FIELD: ConfigOption =
    option("json.fail-on-missing-field", ValueType::Bool, Some("false"), "A missing field is an error, not NULL.");
const IGNORE_PARSE_ERRORS: ConfigOption = option(
    "json.ignore-parse-errors",
    ValueType::Bool,
    Some("false"),
    "Fields that do not parse are NULL, lines that are no JSON are skipped.",
);
const TIMESTAMP_FORMAT: ConfigOption = option(
    "json.timestamp-format.standard",
    ValueType::Enum(&["SQL", "ISO-8601"]),
    Some("SQL"),
    "SQL: `2024-01-31 12:00:00.5`; ISO-8601: `2024-01-31T12:00:00.5`. TIMESTAMP_LTZ ends in `Z`.",
);
const MAP_NULL_KEY_MODE: ConfigOption = option(
    "json.map-null-key.mode",
    ValueType::Enum(&["FAIL", "DROP", "LITERAL"]),
    Some("FAIL"),
    "What is written for a map entry with a NULL key.",
);
const MAP_NULL_KEY_LITERAL: ConfigOption =
    option("json.map-null-key.literal", ValueType::String, Some("null"), "The key written in mode LITERAL.");
const DECIMAL_AS_PLAIN: ConfigOption =
    option("json.encode.decimal-as-plain-number", ValueType::Bool, Some("false"), "Write 100000 instead of 1E+5.");
const IGNORE_NULL_FIELDS: ConfigOption =
    option("json.encode.ignore-null-fields", ValueType::Bool, Some("false"), "Leave out fields that are NULL.");

/// All options.
pub const OPTIONS: &[ConfigOption] = &[
    FAIL_ON_MISSING_FIELD,
    IGNORE_PARSE_ERRORS,
    TIMESTAMP_FORMAT,
    MAP_NULL_KEY_MODE,
    MAP_NULL_KEY_LITERAL,
    DECIMAL_AS_PLAIN,
    IGNORE_NULL_FIELDS,
];

/// What to write for a NULL key of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullKey {
    /// Nothing: fail.
    Fail,
    /// Leave the entry out.
    Drop,
    /// A fixed text.
    Literal,
}

/// Options of the json format.
#[derive(Debug, Clone)]
pub struct JsonOptions {
    /// A missing field is an error.
    pub fail_on_missing_field: bool,
    /// See the option.
    pub ignore_parse_errors: bool,
    /// How timestamps are written.
    pub style: TimestampStyle,
    /// See the option.
    pub null_key: NullKey,
    /// The key written for NULL in mode LITERAL.
    pub null_key_literal: String,
    /// No scientific notation for decimals.
    pub plain_decimals: bool,
    /// NULL fields are left out.
    pub ignore_null_fields: bool,
}

impl JsonOptions {
    /// Reads the options of a table.
    pub fn read(table: &TableOptions) -> Result<JsonOptions> {
        let options = JsonOptions {
            fail_on_missing_field: table.bool(&FAIL_ON_MISSING_FIELD)?,
            ignore_parse_errors: table.bool(&IGNORE_PARSE_ERRORS)?,
            style: match table.word(&TIMESTAMP_FORMAT)? {
                "SQL" => TimestampStyle::Sql,
                _ => TimestampStyle::Iso8601,
            },
            null_key: match table.word(&MAP_NULL_KEY_MODE)? {
                "FAIL" => NullKey::Fail,
                "DROP" => NullKey::Drop,
                _ => NullKey::Literal,
            },
            null_key_literal: table.text(&MAP_NULL_KEY_LITERAL).unwrap_or_default().to_owned(),
            plain_decimals: table.bool(&DECIMAL_AS_PLAIN)?,
            ignore_null_fields: table.bool(&IGNORE_NULL_FIELDS)?,
        };
        if options.fail_on_missing_field && options.ignore_parse_errors {
            return Err(Error::Validation(format!(
                "{} and {} shouldn't both be true",
                FAIL_ON_MISSING_FIELD.key, IGNORE_PARSE_ERRORS.key
            )));
        }
        Ok(options)
    }
}

/// Whether a column of this type can be read and written; otherwise why not.
pub fn supports(ty: &LogicalType) -> std::result::Result<(), String> {
    match ty {
        LogicalType::Map(key, value) => {
            if !key.logical.is_string() {
                return Err(format!("the key of a map must be a string, not {key}"));
            }
            supports(&value.logical)
        }
        LogicalType::Multiset(element) if !element.logical.is_string() => {
            Err(format!("the element of a multiset must be a string, not {element}"))
        }
        LogicalType::Array(element) => supports(&element.logical),
        LogicalType::Row(fields) => fields.iter().try_for_each(|(_, field)| supports(&field.logical)),
        _ => Ok(()),
    }
}
