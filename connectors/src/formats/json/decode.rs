//! JSON lines to columns.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType as ArrowType, Field};
use hurtig_graph::{DataType, LogicalType, RowSchema};
use memchr::memchr;

use super::JsonOptions;
use super::change::{self, BadMessage, Change, ChangeOptions, Dialect};
use super::scan::{self, SyntaxError};
use crate::formats::decoder::{
    RecordDecoder, RecordError, ScanLimits, Scanned, Span, TextRules, nulls, offset, scalar_column, shorten,
};

/// Names of fields, found fast when they come in the expected order.
struct Names {
    names: Vec<Vec<u8>>,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Names {
        Names { names: names.map(|n| n.as_bytes().to_vec()).collect() }
    }

    /// The position of `key` (still escaped); `hint` is where it is expected.
    #[inline]
    fn find(&self, key: &[u8], hint: usize) -> Option<usize> {
        if self.names.get(hint).is_some_and(|n| n == key) {
            return Some(hint);
        }
        if let Some(found) = self.names.iter().position(|n| n == key) {
            return Some(found);
        }
        memchr(b'\\', key)?;
        let key = scan::unescape(key).ok()?;
        self.names.iter().position(|n| *n == *key)
    }
}

/// Reads JSON lines into the columns of a schema.
pub struct JsonDecoder {
    fields: Vec<(String, DataType)>,
    names: Names,
    options: JsonOptions,
    rules: TextRules,
    /// Lines are change messages with rows in them.
    dialect: Option<Dialect>,
    /// One list a column, one entry a pending row.
    spans: Vec<Vec<Span>>,
    /// Where the line of each pending row starts.
    starts: Vec<u32>,
    /// Of each pending row; empty without a dialect.
    kinds: Vec<u8>,
    /// Rows of the message at hand.
    changes: Vec<Change>,
}

impl JsonDecoder {
    /// A decoder that produces the columns of `schema` (the projected ones).
    pub fn new(schema: &RowSchema, options: JsonOptions) -> JsonDecoder {
        let fields: Vec<(String, DataType)> =
            schema.fields.iter().map(|f| (f.name.clone(), f.data_type.clone())).collect();
        JsonDecoder {
            names: Names::new(fields.iter().map(|(n, _)| n.as_str())),
            spans: vec![Vec::new(); fields.len()],
            starts: Vec::new(),
            kinds: Vec::new(),
            changes: Vec::new(),
            rules: TextRules { style: options.style, short_dates: false, ignore_errors: options.ignore_parse_errors },
            dialect: None,
            fields,
            options,
        }
    }

    /// A decoder of change messages.
    pub fn of_changes(schema: &RowSchema, options: ChangeOptions) -> JsonDecoder {
        let mut decoder = JsonDecoder::new(schema, options.json);
        decoder.dialect = Some(options.dialect);
        decoder
    }

    /// Adds a row without fields.
    fn begin_row(&mut self, start: usize) {
        for spans in &mut self.spans {
            spans.push(Span::MISSING);
        }
        self.starts.push(start as u32);
    }

    /// Takes the fields of the object at `at` for the last row. Returns the offset behind it.
    fn fill(&mut self, line: &[u8], at: usize) -> Result<usize, SyntaxError> {
        let (names, spans, row) = (&self.names, &mut self.spans, self.starts.len() - 1);
        let mut hint = 0;
        scan::object(line, at, |key, value| {
            if let Some(i) = names.find(&line[key.start as usize..key.end as usize], hint) {
                spans[i][row] = value;
                hint = i + 1;
            }
        })
    }

    /// Takes the rows of a line whose first byte that is no space is `first`. Returns the offset behind
    /// its object.
    fn rows(&mut self, line: &[u8], start: usize, first: usize) -> Result<usize, BadMessage> {
        let Some(dialect) = self.dialect else {
            self.begin_row(start);
            return Ok(self.fill(line, first)?);
        };
        let mut changes = std::mem::take(&mut self.changes);
        changes.clear();
        let behind = change::changes(dialect, line, first, &mut changes)?;
        for Change { row, over, kind } in &changes {
            self.begin_row(start);
            self.fill(line, row.start as usize)?;
            if let Some(over) = over {
                self.fill(line, over.start as usize)?;
            }
            self.kinds.push(*kind as u8);
        }
        self.changes = changes;
        Ok(behind)
    }

    /// Takes the line `data[start..end]`.
    fn line(&mut self, data: &[u8], start: usize, end: usize) -> Result<(), RecordError> {
        let line = &data[..end];
        let first = scan::skip_space(line, start);
        if first == end {
            return Ok(());
        }
        let before = self.starts.len();
        let scanned = self.rows(line, start, first).and_then(|behind| {
            let behind = scan::skip_space(line, behind);
            if behind == end { Ok(()) } else { Err(SyntaxError { at: behind, expected: "the end of the line" }.into()) }
        });
        let Err(error) = scanned else { return Ok(()) };
        self.spans.iter_mut().for_each(|spans| spans.truncate(before));
        self.starts.truncate(before);
        self.kinds.truncate(before);
        if self.options.ignore_parse_errors {
            return Ok(());
        }
        let reason = match error {
            BadMessage::Syntax(error) => {
                format!("malformed JSON, expected {} at column {}", error.expected, error.at - start + 1)
            }
            BadMessage::Reason(reason) => reason,
        };
        let reason = format!("{reason}: {}", shorten(&data[start..end]));
        Err(RecordError { row: before, offset: start, path: Vec::new(), reason })
    }
}

impl RecordDecoder for JsonDecoder {
    fn scan(&mut self, data: &[u8], from: usize, limits: ScanLimits) -> Result<Scanned, RecordError> {
        let mut at = from;
        while at < limits.until && self.starts.len() < limits.rows {
            match memchr(b'\n', &data[at..]) {
                Some(length) => {
                    self.line(data, at, at + length)?;
                    at += length + 1;
                }
                None if limits.at_end => {
                    self.line(data, at, data.len())?;
                    return Ok(Scanned { end: data.len(), starved: true });
                }
                None => return Ok(Scanned { end: at, starved: true }),
            }
        }
        Ok(Scanned { end: at, starved: false })
    }

    fn pending(&self) -> usize {
        self.starts.len()
    }

    fn finish(&mut self, data: &[u8]) -> Result<Vec<ArrayRef>, RecordError> {
        let builder = ColumnBuilder { data, options: &self.options, rules: &self.rules };
        let columns = self
            .fields
            .iter()
            .zip(&self.spans)
            .map(|((name, ty), spans)| builder.member(name, &ty.logical, spans))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| RecordError { offset: self.starts.get(e.row).map_or(0, |s| *s as usize), ..e })?;
        self.spans.iter_mut().for_each(Vec::clear);
        self.starts.clear();
        Ok(columns)
    }

    fn take_kinds(&mut self) -> Option<Vec<u8>> {
        self.dialect.map(|_| std::mem::take(&mut self.kinds))
    }
}

/// Builds columns from pieces of `data`. Rows of errors are positions in the spans given.
struct ColumnBuilder<'a> {
    data: &'a [u8],
    options: &'a JsonOptions,
    rules: &'a TextRules,
}

type Built = Result<ArrayRef, RecordError>;

fn failed(row: usize, reason: impl Into<String>) -> RecordError {
    RecordError { row, offset: 0, path: Vec::new(), reason: reason.into() }
}

impl ColumnBuilder<'_> {
    /// A field of a row.
    fn member(&self, name: &str, ty: &LogicalType, spans: &[Span]) -> Built {
        let named = |mut e: RecordError| {
            e.path.insert(0, name.to_owned());
            e
        };
        let missing = spans.iter().position(|s| *s == Span::MISSING);
        if let Some(row) = missing.filter(|_| self.options.fail_on_missing_field) {
            return Err(named(failed(row, "the field is missing (json.fail-on-missing-field is true)")));
        }
        self.column(ty, spans).map_err(named)
    }

    fn column(&self, ty: &LogicalType, spans: &[Span]) -> Built {
        match ty {
            LogicalType::Row(fields) => self.rows(ty, fields, spans),
            LogicalType::Array(element) => self.arrays(ty, &element.logical, spans),
            LogicalType::Map(_, value) => self.maps(ty, &value.logical, spans),
            LogicalType::Multiset(_) => self.maps(ty, &LogicalType::Int, spans),
            LogicalType::Int | LogicalType::BigInt => {
                scalar_column(ty, spans.len(), self.rules, |i| Ok(self.text(spans[i])?.map(whole))).map_err(located)
            }
            LogicalType::Char(_) | LogicalType::Varchar(_) => {
                scalar_column(ty, spans.len(), self.rules, |i| self.string(spans[i])).map_err(located)
            }
            LogicalType::Date
            | LogicalType::Time(_)
            | LogicalType::Timestamp(_)
            | LogicalType::TimestampLtz(_)
            | LogicalType::Binary(_)
            | LogicalType::Varbinary(_) => {
                scalar_column(ty, spans.len(), self.rules, |i| Ok(self.text(spans[i])?.map(|t| t.text)))
                    .map_err(located)
            }
            _ => scalar_column(ty, spans.len(), self.rules, |i| Ok(self.text(spans[i])?.map(|t| trim(t.text))))
                .map_err(located),
        }
    }

    /// The bytes of a value; `None` for NULL.
    #[inline]
    fn raw(&self, span: Span) -> Option<&[u8]> {
        if span == Span::MISSING || self.data[span.start as usize] == b'n' {
            return None;
        }
        Some(&self.data[span.start as usize..span.end as usize])
    }

    /// The text of a scalar.
    #[inline]
    fn text(&self, span: Span) -> Result<Option<Token<'_>>, String> {
        let Some(raw) = self.raw(span) else { return Ok(None) };
        match raw[0] {
            b'"' => Ok(Some(Token { text: scan::unescape(&raw[1..raw.len() - 1])?, quoted: true })),
            b'{' | b'[' => Err(format!("expected a single value, found {}", shorten(raw))),
            _ => Ok(Some(Token { text: Cow::Borrowed(raw), quoted: false })),
        }
    }

    /// Any value as a STRING: objects and arrays as compact JSON.
    #[inline]
    fn string(&self, span: Span) -> Result<Option<Cow<'_, [u8]>>, String> {
        let Some(raw) = self.raw(span) else { return Ok(None) };
        match raw[0] {
            b'"' => Ok(Some(scan::unescape(&raw[1..raw.len() - 1])?)),
            b'{' | b'[' => {
                let mut out = Vec::with_capacity(raw.len());
                scan::compact(&mut out, raw);
                Ok(Some(Cow::Owned(out)))
            }
            _ => Ok(Some(Cow::Borrowed(raw))),
        }
    }

    /// Whether value `row` is there and begins with `open`. A wrong value is NULL or an error.
    fn container(&self, ty: &LogicalType, spans: &[Span], row: usize, open: u8) -> Result<bool, RecordError> {
        match self.raw(spans[row]) {
            None => Ok(false),
            Some(raw) if raw[0] == open => Ok(true),
            Some(_) if self.options.ignore_parse_errors => Ok(false),
            Some(raw) => Err(failed(row, format!("expected a value of type {ty}, found {}", shorten(raw)))),
        }
    }

    fn rows(&self, ty: &LogicalType, fields: &[(String, DataType)], spans: &[Span]) -> Built {
        let names = Names::new(fields.iter().map(|(n, _)| n.as_str()));
        let mut children = vec![vec![Span::MISSING; spans.len()]; fields.len()];
        let mut valid = vec![false; spans.len()];
        for (row, valid) in valid.iter_mut().enumerate() {
            *valid = self.container(ty, spans, row, b'{')?;
            if !*valid {
                continue;
            }
            let mut hint = 0;
            let at = spans[row].start as usize;
            let scanned = scan::object(self.data, at, |key, value| {
                if let Some(i) = names.find(&self.data[key.start as usize..key.end as usize], hint) {
                    children[i][row] = value;
                    hint = i + 1;
                }
            });
            // The line was scanned before, so this cannot fail.
            scanned.map_err(|e| failed(row, format!("expected {}", e.expected)))?;
        }
        let (arrow_fields, columns) = self.children(ty, fields, &children, &valid)?;
        let array = StructArray::try_new_with_length(arrow_fields, columns, nulls(valid), spans.len());
        Ok(Arc::new(array.map_err(|e| failed(0, e.to_string()))?))
    }

    fn children(
        &self,
        ty: &LogicalType,
        fields: &[(String, DataType)],
        children: &[Vec<Span>],
        valid: &[bool],
    ) -> Result<(arrow::datatypes::Fields, Vec<ArrayRef>), RecordError> {
        let ArrowType::Struct(arrow_fields) = ty.to_arrow() else {
            return Err(failed(0, format!("{ty} is not a struct")));
        };
        let mut columns = Vec::with_capacity(fields.len());
        for ((name, field), spans) in fields.iter().zip(children) {
            // A missing field of a row that is NULL itself is no missing field.
            if self.options.fail_on_missing_field {
                let missing = (0..valid.len()).find(|&row| valid[row] && spans[row] == Span::MISSING);
                if let Some(row) = missing {
                    let mut error = failed(row, "the field is missing (json.fail-on-missing-field is true)");
                    error.path.push(name.clone());
                    return Err(error);
                }
            }
            columns.push(self.column(&field.logical, spans).map_err(|mut e| {
                e.path.insert(0, name.clone());
                e
            })?);
        }
        Ok((arrow_fields, columns))
    }

    fn arrays(&self, ty: &LogicalType, element: &LogicalType, spans: &[Span]) -> Built {
        let mut children = Vec::new();
        let mut offsets = vec![0_i32];
        let mut valid = vec![false; spans.len()];
        for (row, valid) in valid.iter_mut().enumerate() {
            *valid = self.container(ty, spans, row, b'[')?;
            if *valid {
                scan::array(self.data, spans[row].start as usize, |span| children.push(span))
                    .map_err(|e| failed(row, format!("expected {}", e.expected)))?;
            }
            offsets.push(offset(children.len()).map_err(|e| failed(row, e))?);
        }
        let values = self.column(element, &children).map_err(|e| outer(e, &offsets))?;
        let ArrowType::List(field) = ty.to_arrow() else { return Err(failed(0, format!("{ty} is not a list"))) };
        let array = ListArray::try_new(field, OffsetBuffer::new(offsets.into()), values, nulls(valid));
        Ok(Arc::new(array.map_err(|e| failed(0, e.to_string()))?))
    }

    fn maps(&self, ty: &LogicalType, value: &LogicalType, spans: &[Span]) -> Built {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut offsets = vec![0_i32];
        let mut valid = vec![false; spans.len()];
        for (row, valid) in valid.iter_mut().enumerate() {
            *valid = self.container(ty, spans, row, b'{')?;
            if *valid {
                let first = keys.len();
                scan::object(self.data, spans[row].start as usize, |key, value| {
                    // Of a key that comes twice, the last value counts.
                    let text = |span: Span| &self.data[span.start as usize..span.end as usize];
                    match keys[first..].iter().position(|k| text(*k) == text(key)) {
                        Some(i) => values[first + i] = value,
                        None => {
                            keys.push(key);
                            values.push(value);
                        }
                    }
                })
                .map_err(|e| failed(row, format!("expected {}", e.expected)))?;
            }
            offsets.push(offset(keys.len()).map_err(|e| failed(row, e))?);
        }
        let ArrowType::Map(entries_field, _) = ty.to_arrow() else {
            return Err(failed(0, format!("{ty} is not a map")));
        };
        let key_column = scalar_column(&LogicalType::STRING, keys.len(), self.rules, |i| {
            scan::unescape(&self.data[keys[i].start as usize..keys[i].end as usize]).map(Some)
        })
        .map_err(|e| outer(located(e), &offsets))?;
        let value_column = self.column(value, &values).map_err(|e| outer(e, &offsets))?;
        let entries = entries(&entries_field, key_column, value_column)?;
        let array = MapArray::try_new(entries_field, OffsetBuffer::new(offsets.into()), entries, nulls(valid), false);
        Ok(Arc::new(array.map_err(|e| failed(0, e.to_string()))?))
    }
}

fn entries(field: &Field, keys: ArrayRef, values: ArrayRef) -> Result<StructArray, RecordError> {
    let ArrowType::Struct(fields) = field.data_type() else {
        return Err(failed(0, "the entries of a map are not a struct"));
    };
    let rows = keys.len();
    StructArray::try_new_with_length(fields.clone(), vec![keys, values], None, rows)
        .map_err(|e| failed(0, e.to_string()))
}

/// A scalar's text.
struct Token<'a> {
    text: Cow<'a, [u8]>,
    quoted: bool,
}

fn located((row, reason): (usize, String)) -> RecordError {
    failed(row, reason)
}

/// The row of an element becomes that of its array or map.
fn outer(mut error: RecordError, offsets: &[i32]) -> RecordError {
    error.row = offsets.partition_point(|&o| o as usize <= error.row).saturating_sub(1);
    error
}

fn trim(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(t) => Cow::Borrowed(t.trim_ascii()),
        Cow::Owned(t) => Cow::Owned(t.trim_ascii().to_vec()),
    }
}

/// The text of a whole number: a JSON number with a fraction or exponent is cut off, a string is
/// not.
fn whole(token: Token<'_>) -> Cow<'_, [u8]> {
    if token.quoted {
        return trim(token.text);
    }
    if !token.text.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        return token.text;
    }
    match scalar::parse_double(&token.text) {
        Some(value) if value.abs() < 1e19 => Cow::Owned(format!("{:.0}", value.trunc()).into_bytes()),
        _ => token.text,
    }
}

use crate::formats::scalar;
