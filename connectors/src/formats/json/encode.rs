//! Columns to JSON lines.

use arrow::array::RecordBatch;
use hurtig_graph::RowSchema;

use super::{JsonOptions, NullKey};
use crate::error::{Error, Result};
use crate::formats::calendar::{self, TimestampStyle};
use crate::formats::column::{Column, Value};
use crate::formats::scalar;

/// Writes rows as JSON lines.
pub struct JsonEncoder {
    schema: RowSchema,
    options: JsonOptions,
}

impl JsonEncoder {
    /// An encoder of rows of `schema`.
    pub fn new(schema: RowSchema, options: JsonOptions) -> JsonEncoder {
        JsonEncoder { schema, options }
    }

    /// Appends all rows of `rows`.
    pub fn encode(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut columns = Vec::with_capacity(self.schema.len());
        for (field, array) in self.schema.fields.iter().zip(rows.columns()) {
            columns.push((field.name.as_str(), Column::new(array, &field.data_type.logical)?));
        }
        for row in 0..rows.num_rows() {
            self.object(&columns, row, out)?;
            out.push(b'\n');
        }
        Ok(())
    }

    fn object(&self, fields: &[(&str, Column<'_>)], row: usize, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'{');
        let mut first = true;
        for (name, column) in fields {
            let value = column.value(row);
            if self.options.ignore_null_fields && matches!(value, Value::Null) {
                continue;
            }
            separate(&mut first, out);
            write_string(out, name);
            out.push(b':');
            self.value(&value, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn value(&self, value: &Value<'_, '_>, out: &mut Vec<u8>) -> Result<()> {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
            Value::Int(v) => out.extend_from_slice(v.to_string().as_bytes()),
            Value::Float(v) if !v.is_finite() => quoted(out, |o| scalar::write_java_float(o, *v)),
            Value::Float(v) => scalar::write_java_float(out, *v),
            Value::Double(v) if !v.is_finite() => quoted(out, |o| scalar::write_java_double(o, *v)),
            Value::Double(v) => scalar::write_java_double(out, *v),
            Value::Decimal(v, scale) if self.options.plain_decimals => scalar::write_decimal(out, *v, *scale),
            Value::Decimal(v, scale) => scalar::write_java_decimal(out, *v, *scale, true),
            Value::String(v) => write_string(out, v),
            Value::Binary(v) => quoted(out, |o| scalar::write_base64(o, v)),
            Value::Date(v) => quoted(out, |o| calendar::write_date(o, *v)),
            Value::Time(v) => quoted(out, |o| calendar::write_time(o, *v)),
            Value::Timestamp(v, unit, ltz) => quoted(out, |o| {
                let separator = if self.options.style == TimestampStyle::Sql { b' ' } else { b'T' };
                calendar::write_timestamp(o, *v, unit, separator);
                if *ltz {
                    o.push(b'Z');
                }
            }),
            Value::Months(v) => out.extend_from_slice(v.to_string().as_bytes()),
            Value::Millis(v) => out.extend_from_slice(v.to_string().as_bytes()),
            Value::List(elements, range) => {
                out.push(b'[');
                let mut first = true;
                for i in range.clone() {
                    separate(&mut first, out);
                    self.value(&elements.value(i), out)?;
                }
                out.push(b']');
            }
            Value::Map(keys, values, range) => self.map(keys, values, range.clone(), out)?,
            Value::Row(fields, row) => self.object(fields, *row, out)?,
        }
        Ok(())
    }

    fn map(
        &self,
        keys: &Column<'_>,
        values: &Column<'_>,
        range: std::ops::Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.push(b'{');
        let mut first = true;
        for i in range {
            let key = match keys.value(i) {
                Value::String(key) => key,
                Value::Null => match self.options.null_key {
                    NullKey::Drop => continue,
                    NullKey::Literal => &self.options.null_key_literal,
                    NullKey::Fail => {
                        return Err(Error::Data(
                            "json cannot write a map with a NULL key: set 'json.map-null-key.mode' to DROP or LITERAL"
                                .into(),
                        ));
                    }
                },
                _ => return Err(Error::Internal("the key of a map is not a string".into())),
            };
            separate(&mut first, out);
            write_string(out, key);
            out.push(b':');
            self.value(&values.value(i), out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

fn separate(first: &mut bool, out: &mut Vec<u8>) {
    if !*first {
        out.push(b',');
    }
    *first = false;
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..i]);
        from = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            _ => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}
