//! Rows as Flink's print sink shows them: `+I[a, 1]`, times as Java's `java.time` prints them.

use hurtig_engine::{Batch, batch::RowKind};
use hurtig_graph::RowSchema;

use super::changelog::{columns, text};
use crate::error::Result;
use crate::formats::calendar;
use crate::formats::column::{Column, Value};
use crate::formats::scalar;

/// Appends one line for each row, with `prefix` in front.
pub fn write_rows(schema: &RowSchema, batch: &Batch, prefix: &str, out: &mut Vec<u8>) -> Result<()> {
    let columns = columns(schema, batch)?;
    for row in 0..batch.num_rows() {
        out.extend_from_slice(prefix.as_bytes());
        write_row(batch.kind(row), columns.iter().map(|c| c.value(row)), out);
        out.push(b'\n');
    }
    Ok(())
}

fn write_row<'c, 'a: 'c>(kind: RowKind, values: impl Iterator<Item = Value<'c, 'a>>, out: &mut Vec<u8>) {
    out.extend_from_slice(kind.symbol().as_bytes());
    list(values, b'[', b']', out);
}

fn list<'c, 'a: 'c>(values: impl Iterator<Item = Value<'c, 'a>>, open: u8, close: u8, out: &mut Vec<u8>) {
    out.push(open);
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        write_value(&value, out);
    }
    out.push(close);
}

fn write_value(value: &Value<'_, '_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Decimal(v, scale) => scalar::write_java_decimal(out, *v, *scale, false),
        Value::Binary(bytes) => {
            let numbers: Vec<String> = bytes.iter().map(|b| (*b as i8).to_string()).collect();
            out.extend_from_slice(format!("[{}]", numbers.join(", ")).as_bytes());
        }
        Value::Time(nanos) => calendar::write_java_time(out, *nanos),
        Value::Timestamp(value, unit, ltz) => {
            let (days, nanos) = calendar::split_timestamp(*value, unit);
            calendar::write_date(out, days);
            out.push(b'T');
            if *ltz {
                // An instant always shows its seconds.
                let from = out.len();
                calendar::write_java_time(out, nanos);
                if out.len() - from == 5 {
                    out.extend_from_slice(b":00");
                }
                out.push(b'Z');
            } else {
                calendar::write_java_time(out, nanos);
            }
        }
        Value::List(elements, range) => list(range.clone().map(|i| elements.value(i)), b'[', b']', out),
        Value::Map(keys, values, range) => write_map(keys, values, range.clone(), out),
        Value::Row(fields, row) => write_row(RowKind::Insert, fields.iter().map(|(_, c)| c.value(*row)), out),
        _ => text(value, out),
    }
}

fn write_map(keys: &Column<'_>, values: &Column<'_>, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (n, i) in range.enumerate() {
        if n > 0 {
            out.extend_from_slice(b", ");
        }
        write_value(&keys.value(i), out);
        out.push(b'=');
        write_value(&values.value(i), out);
    }
    out.push(b'}');
}
