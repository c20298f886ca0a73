//! The csv format, by Flink's rules: no header, quotes doubled inside quotes, one record a row of
//! the table; a record with too many or too few fields is an error.

mod decode;
mod encode;
mod scan;
#[cfg(test)]
mod tests;

pub use decode::CsvDecoder;
pub use encode::CsvEncoder;

use hurtig_graph::LogicalType;
use hurtig_graph::config::{ConfigOption, ValueType};

use crate::error::{Error, Result};
use crate::options::{TableOptions, option};

const FIELD_DELIMITER: ConfigOption =
    option("csv.field-delimiter", ValueType::String, Some(","), "Between fields; `\\t` is a tab.");
const DISABLE_QUOTE: ConfigOption =
    option("csv.disable-quote-character", ValueType::Bool, Some("false"), "Quotes have no meaning.");
const QUOTE: ConfigOption = option("csv.quote-character", ValueType::String, Some("\""), "Around fields.");
const ALLOW_COMMENTS: ConfigOption =
    option("csv.allow-comments", ValueType::Bool, Some("false"), "Lines that begin with # are skipped.");
const IGNORE_PARSE_ERRORS: ConfigOption = option(
    "csv.ignore-parse-errors",
    ValueType::Bool,
    Some("false"),
    "Fields that do not parse are NULL, records with another number of fields are skipped.",
);
const ARRAY_DELIMITER: ConfigOption =
    option("csv.array-element-delimiter", ValueType::String, Some(";"), "Between the elements of an ARRAY or ROW.");
const ESCAPE: ConfigOption = option("csv.escape-character", ValueType::String, None, "Takes the meaning of the next.");
const NULL_LITERAL: ConfigOption =
    option("csv.null-literal", ValueType::String, None, "The text that stands for NULL.");
const SCIENTIFIC: ConfigOption = option(
    "csv.write-bigdecimal-in-scientific-notation",
    ValueType::Bool,
    Some("true"),
    "Write 1E+5 instead of 100000.",
);
const TRIM_SPACES: ConfigOption =
    option("csv.trim-spaces", ValueType::Bool, Some("false"), "Drop spaces around unquoted fields.");
const IGNORE_TRAILING: ConfigOption = option(
    "csv.ignore-trailing-unmappable",
    ValueType::Bool,
    Some("false"),
    "Skip fields behind the last column instead of failing.",
);
const TRAILING_COMMA: ConfigOption = option(
    "csv.allow-trailing-comma",
    ValueType::Bool,
    Some("true"),
    "A delimiter behind the last field is no further field.",
);
const EMPTY_AS_NULL: ConfigOption =
    option("csv.empty-string-as-null", ValueType::Bool, Some("false"), "An empty field is NULL.");

/// All options.
pub const OPTIONS: &[ConfigOption] = &[
    FIELD_DELIMITER,
    DISABLE_QUOTE,
    QUOTE,
    ALLOW_COMMENTS,
    IGNORE_PARSE_ERRORS,
    ARRAY_DELIMITER,
    ESCAPE,
    NULL_LITERAL,
    SCIENTIFIC,
    TRIM_SPACES,
    IGNORE_TRAILING,
    TRAILING_COMMA,
    EMPTY_AS_NULL,
];

/// Options of the csv format.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields, if anything.
    pub quote: Option<u8>,
    /// Takes the meaning of the next character.
    pub escape: Option<u8>,
    /// Lines that begin with # are skipped.
    pub comments: bool,
    /// See the option.
    pub ignore_parse_errors: bool,
    /// Between elements.
    pub array_delimiter: String,
    /// Stands for NULL.
    pub null_literal: Option<String>,
    /// Decimals as Java prints them.
    pub scientific: bool,
    /// Spaces around unquoted fields are dropped.
    pub trim_spaces: bool,
    /// Further fields are skipped.
    pub ignore_trailing: bool,
    /// One empty field more than columns is fine.
    pub trailing_comma: bool,
    /// An empty field is NULL.
    pub empty_as_null: bool,
}

impl CsvOptions {
    /// Reads the options of a table.
    pub fn read(table: &TableOptions) -> Result<CsvOptions> {
        let disabled = table.bool(&DISABLE_QUOTE)?;
        if disabled && table.is_set(&QUOTE) {
            return Err(Error::Validation(format!(
                "format 'csv' cannot define a quote character and disable it: drop {} or {}",
                QUOTE.key, DISABLE_QUOTE.key
            )));
        }
        Ok(CsvOptions {
            delimiter: table.byte(&FIELD_DELIMITER)?.unwrap_or(b','),
            quote: if disabled { None } else { table.byte(&QUOTE)? },
            escape: table.byte(&ESCAPE)?,
            comments: table.bool(&ALLOW_COMMENTS)?,
            ignore_parse_errors: table.bool(&IGNORE_PARSE_ERRORS)?,
            array_delimiter: table.text(&ARRAY_DELIMITER).unwrap_or(";").to_owned(),
            null_literal: table.text(&NULL_LITERAL).map(str::to_owned),
            scientific: table.bool(&SCIENTIFIC)?,
            trim_spaces: table.bool(&TRIM_SPACES)?,
            ignore_trailing: table.bool(&IGNORE_TRAILING)?,
            trailing_comma: table.bool(&TRAILING_COMMA)?,
            empty_as_null: table.bool(&EMPTY_AS_NULL)?,
        })
    }
}

/// Whether a column of this type can be read and written; otherwise why not.
pub fn supports(ty: &LogicalType) -> std::result::Result<(), String> {
    let scalar = |ty: &LogicalType| {
        !matches!(ty, LogicalType::Array(_) | LogicalType::Map(..) | LogicalType::Multiset(_) | LogicalType::Row(_))
    };
    match ty {
        LogicalType::Array(element) if !scalar(&element.logical) => Err("its elements must be single values".into()),
        LogicalType::Row(fields) if !fields.iter().all(|(_, f)| scalar(&f.logical)) => {
            Err("its fields must be single values".into())
        }
        LogicalType::Map(..) | LogicalType::Multiset(_) => Err("csv has no maps".into()),
        _ => Ok(()),
    }
}
