//! Partition columns: folders named `key=value` between a table's path and its files.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use arrow::array::ArrayRef;
use arrow::compute::take;
use arrow::datatypes::UInt32Type;
use hurtig_graph::LogicalType;

use super::split::PartitionValue;
use crate::error::{Error, Result};
use crate::formats::calendar::{self, TimestampStyle};
use crate::formats::column::Value;
use crate::formats::decoder::{TextRules, scalar_column};
use crate::formats::scalar;
use crate::render::changelog::text as sql_text;

/// The partition values of a file of the table at `root`.
pub fn of_path(root: &Path, file: &Path) -> Vec<PartitionValue> {
    let Some(folders) = file.strip_prefix(root).ok().and_then(Path::parent) else { return Vec::new() };
    let folders = folders.iter().filter_map(|folder| folder.to_str()?.split_once('='));
    folders.map(|(key, value)| PartitionValue { key: unescape(key), value: unescape(value) }).collect()
}

/// The folders of a row with these partition values, as `a=1/b=x`.
pub fn folders<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let folders: Vec<String> = values.map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    folders.join("/")
}

/// The text of a partition column's value; of NULL and of an empty one it is `default_name`.
pub fn text(value: &Value<'_, '_>, default_name: &str) -> String {
    let mut out = Vec::new();
    match value {
        Value::Null => {}
        Value::Boolean(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Timestamp(v, unit, true) => {
            calendar::write_timestamp(&mut out, *v, unit, b' ');
            out.push(b'Z');
        }
        Value::Binary(v) => scalar::write_base64(&mut out, v),
        other => sql_text(other, &mut out),
    }
    if out.is_empty() { default_name.to_owned() } else { String::from_utf8_lossy(&out).into_owned() }
}

/// `rows` times the value of a partition column.
pub fn column(value: &PartitionValue, ty: &LogicalType, default_name: &str, rows: usize) -> Result<ArrayRef> {
    let rules = TextRules { style: TimestampStyle::Sql, short_dates: true, ignore_errors: false };
    let text = (value.value != default_name).then_some(value.value.as_bytes());
    let one = scalar_column(ty, 1, &rules, |_| Ok(text.map(Cow::Borrowed))).map_err(|(_, reason)| {
        Error::Data(format!("folder '{}={}' of partition column '{}': {reason}", value.key, value.value, value.key))
    })?;
    let zeros = arrow::array::PrimitiveArray::<UInt32Type>::from_value(0, rows);
    Ok(take(&one, &zeros, None)?)
}

/// Characters that are no part of a folder's name are written as `%XX`, as Hive does.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let special = c.is_ascii_control()
            || matches!(
                c,
                '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^' | '\u{7f}'
            );
        if special {
            let _ = write!(out, "%{:02X}", c as u32);
        } else {
            out.push(c);
        }
    }
    // "." and ".." name other folders.
    if out.chars().all(|c| c == '.') { out.replace('.', "%2E") } else { out }
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).filter(|d| bytes[at] == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        match code.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn folders_round_trip_whatever_the_value() {
        for value in ["a", "a/b=c", "100%", "x y", "日本", "..", "2024-01-01 10:00:00", ""] {
            let folder = folders([("k", value)].into_iter());
            assert!(!folder.contains("/") && !folder.contains(".."), "{folder}");
            let found = of_path(Path::new("/t"), &Path::new("/t").join(&folder).join("part-0"));
            assert_eq!(found, [PartitionValue { key: "k".into(), value: value.into() }]);
        }
        assert!(of_path(Path::new("/k=1/t"), Path::new("/k=1/t/part-0")).is_empty());
    }

    #[test]
    fn a_partition_column_has_its_type_and_null() {
        let value = |v: &str| PartitionValue { key: "k".into(), value: v.into() };
        let ints = column(&value("7"), &LogicalType::Int, "none", 3).unwrap();
        assert_eq!(format!("{ints:?}"), format!("{:?}", arrow::array::Int32Array::from(vec![7, 7, 7])));
        assert_eq!(column(&value("none"), &LogicalType::Int, "none", 2).unwrap().null_count(), 2);
        assert!(column(&value("x"), &LogicalType::Int, "none", 2).unwrap_err().to_string().contains("'k=x'"));
    }
}
