//! A changelog as JSON lines: a header with names and types, then `{"op":"+I","row":[...]}` for each
//! change.
//!
//! Values keep all their digits: DECIMAL is a string with exactly its scale, BINARY is hexadecimal,
//! dates and times are SQL text with the fraction only where it is not zero, TIMESTAMP_LTZ is in
//! UTC. ARRAY and ROW are arrays; MAP and MULTISET are arrays of pairs, ordered by their JSON text.

use hurtig_engine::Batch;
use hurtig_graph::RowSchema;

use crate::error::Result;
use crate::formats::calendar;
use crate::formats::column::{Column, Value};
use crate::formats::json::write_string;
use crate::formats::scalar;

/// Renders the rows of one result.
pub struct ChangelogRenderer {
    schema: RowSchema,
}

impl ChangelogRenderer {
    /// For rows of `schema`.
    pub fn new(schema: RowSchema) -> Self {
        ChangelogRenderer { schema }
    }

    /// The header line, without a line break. `upsert_key`: positions of the key when the changelog
    /// carries no -U.
    pub fn header(&self, upsert_key: Option<&[usize]>) -> String {
        let mut out = b"{\"schema\":[".to_vec();
        for (i, field) in self.schema.fields.iter().enumerate() {
            out.extend_from_slice(if i > 0 { b",{\"name\":" } else { b"{\"name\":" });
            write_string(&mut out, &field.name);
            out.extend_from_slice(b",\"type\":");
            write_string(&mut out, &field.data_type.to_string());
            out.push(b'}');
        }
        out.push(b']');
        if let Some(key) = upsert_key {
            let key: Vec<String> = key.iter().map(usize::to_string).collect();
            out.extend_from_slice(format!(",\"upsert_key\":[{}]", key.join(",")).as_bytes());
        }
        out.push(b'}');
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Appends one line for each row.
    pub fn rows(&self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        let columns = columns(&self.schema, batch)?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(b"{\"op\":\"");
            out.extend_from_slice(batch.kind(row).symbol().as_bytes());
            out.extend_from_slice(b"\",\"row\":");
            sequence(columns.iter().map(|c| c.value(row)), out);
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }
}

/// The columns of a batch of `schema`.
pub(super) fn columns<'a>(schema: &'a RowSchema, batch: &'a Batch) -> Result<Vec<Column<'a>>> {
    let pairs = schema.fields.iter().zip(batch.records().columns());
    pairs.map(|(field, array)| Column::new(array, &field.data_type.logical)).collect()
}

fn sequence<'c, 'a: 'c>(values: impl Iterator<Item = Value<'c, 'a>>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json_value(&value, out);
    }
    out.push(b']');
}

/// Appends one value.
fn json_value(value: &Value<'_, '_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Int(v) => out.extend_from_slice(v.to_string().as_bytes()),
        Value::Float(v) if v.is_finite() => {
            number(out, f64::from(*v), || v.to_string(), || scalar::short_float(*v));
        }
        Value::Double(v) if v.is_finite() => number(out, *v, || v.to_string(), || format!("{v:e}")),
        Value::List(elements, range) => sequence(range.clone().map(|i| elements.value(i)), out),
        Value::Row(fields, row) => sequence(fields.iter().map(|(_, c)| c.value(*row)), out),
        Value::Map(keys, values, range) => pairs(keys, values, range.clone(), out),
        Value::String(v) => write_string(out, v),
        _ => {
            out.push(b'"');
            text(value, out);
            out.push(b'"');
        }
    }
}

/// Numbers in their shortest form; far from 1 in scientific notation.
fn number(out: &mut Vec<u8>, value: f64, plain: impl Fn() -> String, scientific: impl Fn() -> String) {
    let near = value == 0.0 || (1e-5..1e16).contains(&value.abs());
    out.extend_from_slice((if near { plain() } else { scientific() }).as_bytes());
}

fn pairs(keys: &Column<'_>, values: &Column<'_>, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    let mut pairs: Vec<Vec<u8>> = range
        .map(|i| {
            let mut pair = Vec::new();
            sequence([keys.value(i), values.value(i)].into_iter(), &mut pair);
            pair
        })
        .collect();
    pairs.sort_unstable();
    out.push(b'[');
    for (i, pair) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(pair);
    }
    out.push(b']');
}

/// Appends the SQL text of a value that is neither a number, a string nor a collection in JSON.
pub(crate) fn text(value: &Value<'_, '_>, out: &mut Vec<u8>) {
    match value {
        Value::Float(v) => scalar::write_java_float(out, *v),
        Value::Double(v) => scalar::write_java_double(out, *v),
        Value::Decimal(v, scale) => scalar::write_decimal(out, *v, *scale),
        Value::Binary(v) => v.iter().for_each(|b| out.extend_from_slice(format!("{b:02x}").as_bytes())),
        Value::Date(v) => calendar::write_date(out, *v),
        Value::Time(v) => calendar::write_time(out, *v),
        Value::Timestamp(v, unit, _) => calendar::write_timestamp(out, *v, unit, b' '),
        Value::Months(v) => {
            let (sign, months) = (if *v < 0 { '-' } else { '+' }, v.unsigned_abs());
            out.extend_from_slice(format!("{sign}{}-{:02}", months / 12, months % 12).as_bytes());
        }
        Value::Millis(v) => {
            let (sign, ms) = (if *v < 0 { '-' } else { '+' }, v.unsigned_abs());
            let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let time = format!("{sign}{days} {hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, ms % 1000);
            out.extend_from_slice(time.as_bytes());
        }
        Value::Null => out.extend_from_slice(b"NULL"),
        Value::Boolean(v) => out.extend_from_slice(if *v { b"TRUE" } else { b"FALSE" }),
        Value::Int(v) => out.extend_from_slice(v.to_string().as_bytes()),
        Value::String(v) => out.extend_from_slice(v.as_bytes()),
        Value::List(..) | Value::Row(..) | Value::Map(..) => json_value(value, out),
    }
}
