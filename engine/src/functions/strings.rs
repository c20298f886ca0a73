//! String functions. Positions are 1-based and count code points.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, ListArray, StringArray, StringBuilder};
use arrow::array::{ListBuilder, StringBuilder as ItemBuilder};
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use hurtig_graph::LogicalType as T;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::value::{Kernel, Value, argument, rowwise};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let pure = |kernel: Kernel| Ok(Some(Function::pure(kernel)));
    match call.name {
        "UPPER" | "LOWER" => pure(change_case(call.name == "UPPER", &call.result.logical)),
        "INITCAP" => pure(rowwise!((s: StringArray) -> StringArray, Ok(Some(initcap(s))))),
        "CHAR_LENGTH" => pure(rowwise!((s: StringArray) -> Int32Array, Ok(Some(char_count(s) as i32)))),
        "CONCAT" | "||" => pure(concat(call.arguments.iter().any(|a| a.data_type.logical.is_binary()))),
        "CONCAT_WS" => pure(concat_ws()),
        "SUBSTRING" => pure(substring(call.arguments.len())),
        "LEFT" => pure(rowwise!((s: StringArray, n: Int32Array) -> StringArray, Ok(Some(left(s, n).to_owned())))),
        "RIGHT" => pure(rowwise!((s: StringArray, n: Int32Array) -> StringArray, Ok(Some(right(s, n).to_owned())))),
        "POSITION" => pure(match call.arguments.len() {
            2 => rowwise!((part: StringArray, s: StringArray) -> Int32Array, Ok(Some(locate(part, s, 1)))),
            _ => rowwise!((part: StringArray, s: StringArray, from: Int32Array) -> Int32Array,
                Ok(Some(locate(part, s, from)))),
        }),
        "INSTR" => Ok(Some(Function::fallible(instr(call.arguments.len())))),
        "TRIM" => trim(call).map(Some),
        "LPAD" => pure(rowwise!((s: StringArray, n: Int32Array, pad: StringArray) -> StringArray,
            Ok(pad_to(s, n, pad, true)))),
        "RPAD" => pure(rowwise!((s: StringArray, n: Int32Array, pad: StringArray) -> StringArray,
            Ok(pad_to(s, n, pad, false)))),
        "REPEAT" => {
            pure(rowwise!((s: StringArray, n: Int32Array) -> StringArray, Ok(Some(s.repeat(n.max(0) as usize)))))
        }
        "REVERSE" => pure(rowwise!((s: StringArray) -> StringArray, Ok(Some(s.chars().rev().collect::<String>())))),
        "REPLACE" => pure(rowwise!((s: StringArray, a: StringArray, b: StringArray) -> StringArray,
            Ok(Some(s.replace(a, b))))),
        "OVERLAY" => pure(overlay(call.arguments.len())),
        "TRANSLATE" => pure(Arc::new(|values: &[Value], rows| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            let from = argument(values, 1)?.view::<StringArray>()?;
            let to = argument(values, 2)?.view::<StringArray>()?;
            let array: StringArray = (0..rows)
                .map(|row| match (text.get(row)?, from.get(row), to.get(row)) {
                    (s, None, _) => Some(s.to_owned()),
                    (s, Some(from), to) => Some(translate(s, from, to?)),
                })
                .collect();
            Ok(Arc::new(array) as ArrayRef)
        })),
        "SPLIT_INDEX" => split_index(call).map(Some),
        "SPLIT" => pure(split()),
        "ASCII" => pure(rowwise!((s: StringArray) -> Int32Array,
            Ok(Some(s.bytes().next().map_or(0, |b| i32::from(b as i8)))))),
        "CHR" => pure(Arc::new(|values: &[Value], rows: usize| {
            let n = argument(values, 0)?.longs()?;
            let array: StringArray = (0..rows).map(|row| n.get(row).map(chr)).collect();
            Ok(Arc::new(array) as ArrayRef)
        })),
        "ELT" => pure(elt(call.ty(1)?.is_binary())),
        "STARTSWITH" | "ENDSWITH" => pure(affix(call.name == "STARTSWITH", call.ty(0)?.is_binary())),
        "IS_ALPHA" => pure(all_chars(char::is_alphabetic)),
        "IS_DIGIT" => pure(all_chars(|c| c.is_numeric())),
        "IS_DECIMAL" => pure(rowwise!((s: StringArray) -> BooleanArray, Ok(Some(is_decimal(s))))),
        _ => Ok(None),
    }
}

/// Number of code points.
fn char_count(s: &str) -> usize {
    if s.is_ascii() { s.len() } else { s.chars().count() }
}

/// The byte position of code point `n`, or the end.
fn byte_at(s: &str, n: usize) -> usize {
    if s.is_ascii() { n.min(s.len()) } else { s.char_indices().nth(n).map_or(s.len(), |(at, _)| at) }
}

fn change_case(upper: bool, result: &T) -> Kernel {
    let by_row = change_case_by_row(upper, result);
    Arc::new(move |values: &[Value], rows| {
        let array = crate::expr::value::downcast::<StringArray>(&argument(values, 0)?.array)?;
        if !array.value_data().is_ascii() {
            return by_row(values, rows);
        }
        // ASCII changes byte by byte: all values in one loop, their places stay.
        let bytes = array.value_data();
        let changed = if upper { bytes.to_ascii_uppercase() } else { bytes.to_ascii_lowercase() };
        let nulls = array.nulls().cloned();
        Ok(Arc::new(StringArray::try_new(array.offsets().clone(), changed.into(), nulls)?) as ArrayRef)
    })
}

fn change_case_by_row(upper: bool, result: &T) -> Kernel {
    // A CHAR keeps its length: what the change of case adds is cut off.
    let most = match result {
        T::Char(n) => *n as usize,
        _ => usize::MAX,
    };
    rowwise!((s: StringArray) -> StringArray, {
        let changed = match (upper, s.is_ascii()) {
            (true, true) => s.to_ascii_uppercase(),
            (false, true) => s.to_ascii_lowercase(),
            (true, false) => s.to_uppercase(),
            (false, false) => s.to_lowercase(),
        };
        let end = byte_at(&changed, most);
        Ok(Some(if end < changed.len() { changed[..end].to_owned() } else { changed }))
    })
}

/// ASCII letters only; a word is a run of ASCII letters and digits.
fn initcap(s: &str) -> String {
    let mut inside = false;
    s.chars()
        .map(|c| {
            let changed = if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            inside = c.is_ascii_alphanumeric();
            changed
        })
        .collect()
}

fn concat(binary: bool) -> Kernel {
    Arc::new(move |values: &[Value], rows: usize| {
        if binary {
            let parts = values.iter().map(Value::view::<BinaryArray>).collect::<Result<Vec<_>>>()?;
            let array: BinaryArray = (0..rows)
                .map(|row| parts.iter().map(|p| p.get(row)).collect::<Option<Vec<&[u8]>>>().map(|p| p.concat()))
                .collect();
            return Ok(Arc::new(array) as ArrayRef);
        }
        if let [a, b] = values
            && !a.constant
            && !b.constant
        {
            return Ok(concat_elements_dyn(&a.array, &b.array)?);
        }
        let parts = values.iter().map(Value::view::<StringArray>).collect::<Result<Vec<_>>>()?;
        let mut builder = StringBuilder::with_capacity(rows, rows * 16);
        let mut joined = String::new();
        'rows: for row in 0..rows {
            joined.clear();
            for part in &parts {
                match part.get(row) {
                    Some(text) => joined.push_str(text),
                    None => {
                        builder.append_null();
                        continue 'rows;
                    }
                }
            }
            builder.append_value(&joined);
        }
        Ok(Arc::new(builder.finish()))
    })
}

fn concat_ws() -> Kernel {
    Arc::new(|values: &[Value], rows: usize| {
        let parts = values.iter().map(Value::view::<StringArray>).collect::<Result<Vec<_>>>()?;
        let Some((separator, parts)) = parts.split_first() else {
            return Err(EngineError::Internal("CONCAT_WS without arguments".to_owned()));
        };
        let array: StringArray = (0..rows)
            .map(|row| {
                let separator = separator.get(row)?;
                Some(parts.iter().filter_map(|p| p.get(row)).collect::<Vec<_>>().join(separator))
            })
            .collect();
        Ok(Arc::new(array) as ArrayRef)
    })
}

/// From position `start` (0 is 1, negative from the end), `length` code points; `None` for a
/// negative length.
fn substring_of(s: &str, start: i64, length: i64) -> Option<&str> {
    if length < 0 {
        return None;
    }
    let count = char_count(s) as i64;
    let first = match start {
        0 => 0,
        n if n > 0 => n - 1,
        n => count + n,
    };
    if first < 0 || first >= count {
        // Also when a negative start lies before the beginning.
        return Some("");
    }
    let end = first.saturating_add(length).min(count);
    Some(&s[byte_at(s, first as usize)..byte_at(s, end as usize)])
}

fn substring(arguments: usize) -> Kernel {
    if arguments == 2 {
        return rowwise!((s: StringArray, start: Int32Array) -> StringArray,
            Ok(substring_of(s, start.into(), i64::MAX)));
    }
    rowwise!((s: StringArray, start: Int32Array, length: Int32Array) -> StringArray,
        Ok(substring_of(s, start.into(), length.into())))
}

fn left(s: &str, n: i32) -> &str {
    &s[..byte_at(s, n.max(0) as usize)]
}

fn right(s: &str, n: i32) -> &str {
    let count = char_count(s);
    &s[byte_at(s, count.saturating_sub(n.max(0) as usize))..]
}

/// Position of `part` in `s` at or after position `from`, 0 if there is none.
fn locate(part: &str, s: &str, from: i32) -> i32 {
    let start = (from.max(1) - 1) as usize;
    if start > char_count(s) {
        return 0;
    }
    if part.is_empty() {
        return 1;
    }
    let offset = byte_at(s, start);
    s[offset..].find(part).map_or(0, |at| char_count(&s[..offset + at]) as i32 + 1)
}

/// INSTR(s, part [, start [, occurrence]]): a negative start searches backward from the end.
fn instr(arguments: usize) -> Kernel {
    match arguments {
        2 => rowwise!((s: StringArray, part: StringArray) -> Int32Array, instr_of(s, part, 1, 1).map(Some)),
        3 => rowwise!((s: StringArray, part: StringArray, start: Int32Array) -> Int32Array,
            instr_of(s, part, start, 1).map(Some)),
        _ => rowwise!((s: StringArray, part: StringArray, start: Int32Array, nth: Int32Array) -> Int32Array,
            instr_of(s, part, start, nth).map(Some)),
    }
}

fn instr_of(s: &str, part: &str, start: i32, nth: i32) -> Result<i32> {
    if nth <= 0 {
        return Err(EngineError::Runtime(format!("INSTR: the occurrence must be positive, not {nth}")));
    }
    if start == 0 {
        return Ok(0);
    }
    if part.is_empty() {
        return Ok(1);
    }
    let count = char_count(s);
    let starts = s.match_indices_overlapping(part);
    let positions = starts.into_iter().map(|at| char_count(&s[..at]) + 1);
    let found = if start > 0 {
        positions.filter(|p| *p >= start as usize).nth(nth as usize - 1)
    } else {
        let last = (count + 1).saturating_sub(start.unsigned_abs() as usize);
        let mut before: Vec<usize> = positions.filter(|p| *p <= last).collect();
        before.reverse();
        before.get(nth as usize - 1).copied()
    };
    Ok(found.unwrap_or(0) as i32)
}

trait OverlappingMatches {
    /// The byte positions of all occurrences, overlapping ones too.
    fn match_indices_overlapping(&self, part: &str) -> Vec<usize>;
}

impl OverlappingMatches for str {
    fn match_indices_overlapping(&self, part: &str) -> Vec<usize> {
        self.char_indices().map(|(at, _)| at).filter(|&at| self[at..].starts_with(part)).collect()
    }
}

/// TRIM(side, chars, s), side a literal BOTH, LEADING or TRAILING.
fn trim(call: &Call<'_>) -> Result<Function> {
    let (leading, trailing) = match call.text(0) {
        Some("BOTH") => (true, true),
        Some("LEADING") => (true, false),
        Some("TRAILING") => (false, true),
        _ => return Err(EngineError::Validation("TRIM needs BOTH, LEADING or TRAILING as a literal".to_owned())),
    };
    Ok(Function::pure(rowwise!((side: StringArray, set: StringArray, s: StringArray) -> StringArray, {
        let _ = side;
        let in_set = |c: char| set.contains(c);
        let trimmed = if leading { s.trim_start_matches(in_set) } else { s };
        Ok(Some(if trailing { trimmed.trim_end_matches(in_set) } else { trimmed }.to_owned()))
    })))
}

fn pad_to(s: &str, n: i32, pad: &str, front: bool) -> Option<String> {
    if n < 0 {
        return None;
    }
    let (n, count) = (n as usize, char_count(s));
    if n <= count {
        // An empty pad gives NULL even where nothing is to pad.
        return if pad.is_empty() { None } else { Some(s[..byte_at(s, n)].to_owned()) };
    }
    if pad.is_empty() {
        return None;
    }
    let filler: String = pad.chars().cycle().take(n - count).collect();
    Some(if front { format!("{filler}{s}") } else { format!("{s}{filler}") })
}

fn overlay(arguments: usize) -> Kernel {
    if arguments == 3 {
        return rowwise!((s: StringArray, r: StringArray, from: Int32Array) -> StringArray,
            Ok(Some(overlay_of(s, r, from, char_count(r) as i64))));
    }
    rowwise!((s: StringArray, r: StringArray, from: Int32Array, n: Int32Array) -> StringArray,
        Ok(Some(overlay_of(s, r, from, n.into()))))
}

fn overlay_of(s: &str, r: &str, from: i32, n: i64) -> String {
    let count = char_count(s) as i64;
    let from = i64::from(from);
    if from < 1 || from > count {
        return s.to_owned();
    }
    let mut out = s[..byte_at(s, from as usize - 1)].to_owned();
    out.push_str(r);
    // The rest is kept only where a positive length leaves one.
    if n > 0 && from - 1 + n < count {
        out.push_str(&s[byte_at(s, (from - 1 + n) as usize)..]);
    }
    out
}

fn translate(s: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    let from: Vec<char> = from.chars().collect();
    s.chars()
        .filter_map(|c| match from.iter().position(|f| *f == c) {
            None => Some(c),
            Some(at) => to.get(at).copied(),
        })
        .collect()
}

fn split_index(call: &Call<'_>) -> Result<Function> {
    let by_code = call.ty(1)?.is_integer();
    Ok(Function::pure(Arc::new(move |values: &[Value], rows: usize| {
        let text = argument(values, 0)?.view::<StringArray>()?;
        let index = argument(values, 2)?.view::<Int32Array>()?;
        let array: StringArray = if by_code {
            let code = argument(values, 1)?.longs()?;
            (0..rows)
                .map(|row| {
                    let separator = u32::try_from(code.get(row)?).ok().and_then(char::from_u32)?;
                    nth_part(text.get(row)?, separator.encode_utf8(&mut [0; 4]), index.get(row)?)
                })
                .collect()
        } else {
            let separator = argument(values, 1)?.view::<StringArray>()?;
            (0..rows).map(|row| nth_part(text.get(row)?, separator.get(row)?, index.get(row)?)).collect()
        };
        Ok(Arc::new(array) as ArrayRef)
    })))
}

fn nth_part<'a>(s: &'a str, separator: &str, n: i32) -> Option<&'a str> {
    let n = usize::try_from(n).ok()?;
    if separator.is_empty() || s.is_empty() {
        return None;
    }
    s.split(separator).nth(n)
}

fn split() -> Kernel {
    Arc::new(|values: &[Value], rows: usize| {
        let text = argument(values, 0)?.view::<StringArray>()?;
        let separator = argument(values, 1)?.view::<StringArray>()?;
        let mut builder = ListBuilder::new(ItemBuilder::new());
        for row in 0..rows {
            match (text.get(row), separator.get(row)) {
                (Some(s), Some(separator)) => {
                    if s.is_empty() {
                    } else if separator.is_empty() {
                        s.chars().for_each(|c| builder.values().append_value(c.encode_utf8(&mut [0; 4])));
                    } else {
                        s.split(separator).for_each(|part| builder.values().append_value(part));
                    }
                    builder.append(true);
                }
                _ => builder.append(false),
            }
        }
        let list: ListArray = builder.finish();
        Ok(Arc::new(list) as ArrayRef)
    })
}

/// The character of code `n` modulo 256; nothing for a negative one.
fn chr(n: i64) -> String {
    if n < 0 { String::new() } else { char::from((n % 256) as u8).to_string() }
}

fn elt(binary: bool) -> Kernel {
    Arc::new(move |values: &[Value], rows: usize| {
        let index = argument(values, 0)?.longs()?;
        let choose = |row: usize| -> Option<usize> {
            let n = usize::try_from(index.get(row)?).ok()?;
            (n >= 1 && n < values.len()).then_some(n)
        };
        if binary {
            let parts = values[1..].iter().map(Value::view::<BinaryArray>).collect::<Result<Vec<_>>>()?;
            let array: BinaryArray = (0..rows).map(|row| parts[choose(row)? - 1].get(row)).collect();
            return Ok(Arc::new(array) as ArrayRef);
        }
        let parts = values[1..].iter().map(Value::view::<StringArray>).collect::<Result<Vec<_>>>()?;
        let array: StringArray = (0..rows).map(|row| parts[choose(row)? - 1].get(row)).collect();
        Ok(Arc::new(array))
    })
}

fn affix(start: bool, binary: bool) -> Kernel {
    if binary {
        return rowwise!((s: BinaryArray, part: BinaryArray) -> BooleanArray,
            Ok(Some(if start { s.starts_with(part) } else { s.ends_with(part) })));
    }
    rowwise!((s: StringArray, part: StringArray) -> BooleanArray,
        Ok(Some(if start { s.starts_with(part) } else { s.ends_with(part) })))
}

fn all_chars(test: fn(char) -> bool) -> Kernel {
    rowwise!((s: StringArray) -> BooleanArray, Ok(Some(!s.is_empty() && s.chars().all(test))))
}

fn is_decimal(s: &str) -> bool {
    let digits = s.strip_prefix('-').unwrap_or(s);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole) && all_digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substring_counts_from_either_end() {
        assert_eq!(substring_of("hello", 0, 2), Some("he"));
        assert_eq!(substring_of("hello", -3, 2), Some("ll"));
        assert_eq!(substring_of("hello", -10, 3), Some(""));
        assert_eq!(substring_of("hello", 9, 3), Some(""));
        assert_eq!(substring_of("hello", 1, -1), None);
        assert_eq!(substring_of("日本語", 2, i64::MAX), Some("本語"));
    }

    #[test]
    fn positions_and_padding() {
        assert_eq!(locate("b", "abcb", 3), 4);
        assert_eq!(locate("", "abc", 1), 1);
        assert_eq!(locate("x", "abc", 0), 0);
        assert_eq!(instr_of("CORPORATE FLOOR", "OR", 3, 2).unwrap(), 14);
        assert_eq!(instr_of("banana", "a", -3, 1).unwrap(), 4);
        assert_eq!(pad_to("hi", 5, "?", true).as_deref(), Some("???hi"));
        assert_eq!(pad_to("hi", 5, "", true), None);
        assert_eq!(overlay_of("abcdef", "XY", 3, 0), "abXY");
        assert_eq!(overlay_of("abcdef", "XY", 0, 1), "abcdef");
        assert_eq!(nth_part("a,b,,c", ",", 2), Some(""));
        assert_eq!(initcap("hELLO wORLD-foo_bar 1st"), "Hello World-Foo_Bar 1st");
    }
}
