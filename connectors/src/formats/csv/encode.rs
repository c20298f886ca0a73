//! Columns to separated values.

use arrow::array::RecordBatch;
use hurtig_graph::RowSchema;

use super::CsvOptions;
use crate::error::{Error, Result};
use crate::formats::calendar;
use crate::formats::column::{Column, Value};
use crate::formats::scalar;

/// Writes rows as separated values.
pub struct CsvEncoder {
    schema: RowSchema,
    options: CsvOptions,
}

impl CsvEncoder {
    /// An encoder of rows of `schema`.
    pub fn new(schema: RowSchema, options: CsvOptions) -> CsvEncoder {
        CsvEncoder { schema, options }
    }

    /// Appends all rows of `rows`.
    pub fn encode(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut columns = Vec::with_capacity(self.schema.len());
        for (field, array) in self.schema.fields.iter().zip(rows.columns()) {
            columns.push(Column::new(array, &field.data_type.logical)?);
        }
        let mut text = Vec::new();
        for row in 0..rows.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    out.push(self.options.delimiter);
                }
                text.clear();
                let value = column.value(row);
                if let Value::Null = value {
                    out.extend_from_slice(self.null());
                    continue;
                }
                self.value(&value, &mut text)?;
                let may_need_quotes = !matches!(value, Value::Int(_) | Value::Boolean(_));
                self.field(&text, may_need_quotes, out)?;
            }
            out.push(b'\n');
        }
        Ok(())
    }

    fn null(&self) -> &[u8] {
        self.options.null_literal.as_deref().unwrap_or_default().as_bytes()
    }

    fn value(&self, value: &Value<'_, '_>, out: &mut Vec<u8>) -> Result<()> {
        match value {
            Value::Null => out.extend_from_slice(self.null()),
            Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
            Value::Int(v) => out.extend_from_slice(v.to_string().as_bytes()),
            Value::Float(v) => scalar::write_java_float(out, *v),
            Value::Double(v) => scalar::write_java_double(out, *v),
            Value::Decimal(v, scale) if self.options.scientific => scalar::write_java_decimal(out, *v, *scale, true),
            Value::Decimal(v, scale) => scalar::write_decimal(out, *v, *scale),
            Value::String(v) => out.extend_from_slice(v.as_bytes()),
            Value::Binary(v) => scalar::write_base64(out, v),
            Value::Date(v) => calendar::write_date(out, *v),
            Value::Time(v) => calendar::write_time(out, *v),
            Value::Timestamp(v, unit, ltz) => {
                calendar::write_timestamp(out, *v, unit, b' ');
                if *ltz {
                    out.push(b'Z');
                }
            }
            Value::Months(v) => out.extend_from_slice(v.to_string().as_bytes()),
            Value::Millis(v) => out.extend_from_slice(v.to_string().as_bytes()),
            Value::List(elements, range) => {
                for (n, i) in range.clone().enumerate() {
                    self.element(n, &elements.value(i), out)?;
                }
            }
            Value::Row(fields, row) => {
                for (n, (_, column)) in fields.iter().enumerate() {
                    self.element(n, &column.value(*row), out)?;
                }
            }
            Value::Map(..) => return Err(Error::Internal("csv has no maps".into())),
        }
        Ok(())
    }

    fn element(&self, index: usize, value: &Value<'_, '_>, out: &mut Vec<u8>) -> Result<()> {
        if index > 0 {
            out.extend_from_slice(self.options.array_delimiter.as_bytes());
        }
        self.value(value, out)
    }

    /// Appends a field, quoted if anything in it could be misread.
    fn field(&self, text: &[u8], may_need_quotes: bool, out: &mut Vec<u8>) -> Result<()> {
        let special = |b: &u8| {
            matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'#')
                || *b == self.options.delimiter
                || Some(*b) == self.options.quote
                || Some(*b) == self.options.escape
        };
        if !may_need_quotes || !text.iter().any(special) {
            out.extend_from_slice(text);
            return Ok(());
        }
        let Some(quote) = self.options.quote else { return self.unquoted(text, out) };
        out.push(quote);
        for &b in text {
            match self.options.escape {
                Some(escape) if b == quote || b == escape => out.push(escape),
                None if b == quote => out.push(quote),
                _ => {}
            }
            out.push(b);
        }
        out.push(quote);
        Ok(())
    }

    /// Without quotes, what would be misread is escaped, or refused if nothing can escape it.
    fn unquoted(&self, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
        for &b in text {
            let break_or_delimiter = matches!(b, b'\n' | b'\r') || b == self.options.delimiter;
            match self.options.escape {
                Some(escape) if break_or_delimiter || b == escape => {
                    out.push(escape);
                    out.push(match b {
                        b'\n' => b'n',
                        b'\r' => b'r',
                        other => other,
                    });
                }
                None if break_or_delimiter => {
                    return Err(Error::Data(format!(
                        "csv cannot write '{}': it holds a delimiter or line break, quotes are disabled and there is \
                         no 'csv.escape-character'",
                        crate::formats::decoder::shorten(text)
                    )));
                }
                _ => out.push(b),
            }
        }
        Ok(())
    }
}
