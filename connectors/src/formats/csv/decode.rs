//! Separated values to columns.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType as ArrowType;
use hurtig_graph::{DataType, LogicalType, RowSchema};
use memchr::memmem;

use super::CsvOptions;
use super::scan::{Fields, Found, record};
use crate::formats::calendar::TimestampStyle;
use crate::formats::decoder::{
    RecordDecoder, RecordError, ScanLimits, Scanned, Span, TextRules, ValueError, nulls, offset, scalar_column,
};

/// Reads separated values into columns of a schema.
pub struct CsvDecoder {
    /// Number of fields of a record.
    arity: usize,
    /// The columns produced: position in the record, name, type.
    columns: Vec<(usize, String, DataType)>,
    options: CsvOptions,
    rules: TextRules,
    /// Spans of the record being read; its scratch holds texts of all pending rows.
    fields: Fields,
    /// One list a column, one entry a pending row.
    spans: Vec<Vec<Span>>,
    starts: Vec<u32>,
}

impl CsvDecoder {
    /// A decoder of records with the fields of `schema`, producing those at `projection`.
    pub fn new(schema: &RowSchema, projection: &[usize], options: CsvOptions) -> CsvDecoder {
        let column = |&i: &usize| (i, schema.fields[i].name.clone(), schema.fields[i].data_type.clone());
        CsvDecoder {
            arity: schema.len(),
            columns: projection.iter().map(column).collect(),
            rules: TextRules {
                style: TimestampStyle::Sql,
                short_dates: true,
                ignore_errors: options.ignore_parse_errors,
            },
            fields: Fields::default(),
            spans: vec![Vec::new(); projection.len()],
            starts: Vec::new(),
            options,
        }
    }

    /// Takes the record whose spans lie in `self.fields`.
    fn take(&mut self, data: &[u8], start: usize) -> Result<(), String> {
        let spans = &self.fields.spans;
        let last_is_empty = spans.last().is_some_and(|s| s.start == s.end);
        let fits = spans.len() == self.arity
            || spans.len() == self.arity + 1 && last_is_empty && self.options.trailing_comma
            || spans.len() > self.arity && self.options.ignore_trailing;
        if !fits {
            return Err(format!(
                "row length mismatch: {} fields expected but {} found: {}",
                self.arity,
                spans.len(),
                crate::formats::decoder::shorten(data[start..].split(|b| *b == b'\n').next().unwrap_or_default())
            ));
        }
        for ((index, ..), column) in self.columns.iter().zip(&mut self.spans) {
            column.push(spans[*index]);
        }
        self.starts.push(start as u32);
        Ok(())
    }

    fn refused(&self, offset: usize, reason: String) -> Result<(), RecordError> {
        if self.options.ignore_parse_errors {
            return Ok(());
        }
        Err(RecordError { row: self.starts.len(), offset, path: Vec::new(), reason })
    }
}

impl RecordDecoder for CsvDecoder {
    fn scan(&mut self, data: &[u8], from: usize, limits: ScanLimits) -> Result<Scanned, RecordError> {
        let mut at = from;
        while at < limits.until && self.starts.len() < limits.rows {
            if at == data.len() {
                return Ok(Scanned { end: at, starved: true });
            }
            self.fields.spans.clear();
            let scratch = self.fields.scratch.len();
            match record(&self.options, data, at, limits.at_end, &mut self.fields) {
                Ok(Found::Incomplete) => {
                    self.fields.scratch.truncate(scratch);
                    return Ok(Scanned { end: at, starved: true });
                }
                Ok(Found::Comment(end)) => at = end,
                Ok(Found::Record(end)) => {
                    if let Err(reason) = self.take(data, at) {
                        self.refused(at, reason)?;
                    }
                    at = end;
                }
                Err((reason, end)) => {
                    self.refused(at, reason)?;
                    at = end;
                }
            }
        }
        Ok(Scanned { end: at, starved: false })
    }

    fn pending(&self) -> usize {
        self.starts.len()
    }

    fn finish(&mut self, data: &[u8]) -> Result<Vec<ArrayRef>, RecordError> {
        let builder = Builder { data, scratch: &self.fields.scratch, options: &self.options, rules: &self.rules };
        let mut columns = Vec::with_capacity(self.columns.len());
        for ((_, name, ty), spans) in self.columns.iter().zip(&self.spans) {
            columns.push(builder.column(&ty.logical, spans).map_err(|(row, reason)| RecordError {
                row,
                offset: self.starts.get(row).map_or(0, |s| *s as usize),
                path: vec![name.clone()],
                reason,
            })?);
        }
        self.spans.iter_mut().for_each(Vec::clear);
        self.starts.clear();
        self.fields.scratch.clear();
        Ok(columns)
    }
}

struct Builder<'a> {
    data: &'a [u8],
    scratch: &'a [u8],
    options: &'a CsvOptions,
    rules: &'a TextRules,
}

impl<'a> Builder<'a> {
    fn column(&self, ty: &LogicalType, spans: &[Span]) -> Result<ArrayRef, ValueError> {
        match ty {
            LogicalType::Array(element) => self.arrays(ty, &element.logical, spans),
            LogicalType::Row(fields) => self.rows(ty, fields, spans),
            _ => {
                let trim = !ty.is_string();
                scalar_column(ty, spans.len(), self.rules, |i| {
                    Ok(self.text(spans[i]).map(|t| Cow::Borrowed(if trim { t.trim_ascii() } else { t })))
                })
            }
        }
    }

    /// The text of a field; `None` for NULL.
    #[inline]
    fn text(&self, span: Span) -> Option<&'a [u8]> {
        let text = Fields::text(self.scratch, self.data, span);
        let null = match &self.options.null_literal {
            Some(literal) => text == literal.as_bytes(),
            None => false,
        };
        if null || text.is_empty() && self.options.empty_as_null { None } else { Some(text) }
    }

    /// The elements of an ARRAY or ROW field.
    fn elements(&self, text: &'a [u8]) -> Vec<&'a [u8]> {
        let delimiter = self.options.array_delimiter.as_bytes();
        if text.is_empty() {
            return Vec::new();
        }
        if delimiter.is_empty() {
            return vec![text];
        }
        let mut elements = Vec::new();
        let mut from = 0;
        for at in memmem::find_iter(text, delimiter) {
            elements.push(&text[from..at]);
            from = at + delimiter.len();
        }
        elements.push(&text[from..]);
        elements
    }

    fn scalars(&self, ty: &LogicalType, texts: &[Option<&'a [u8]>]) -> Result<ArrayRef, ValueError> {
        let literal = self.options.null_literal.as_deref().map(str::as_bytes);
        let trim = !ty.is_string();
        scalar_column(ty, texts.len(), self.rules, |i| {
            Ok(texts[i].filter(|t| Some(*t) != literal).map(|t| Cow::Borrowed(if trim { t.trim_ascii() } else { t })))
        })
    }

    fn arrays(&self, ty: &LogicalType, element: &LogicalType, spans: &[Span]) -> Result<ArrayRef, ValueError> {
        let mut texts = Vec::new();
        let mut offsets = vec![0_i32];
        let mut valid = vec![true; spans.len()];
        for (row, span) in spans.iter().enumerate() {
            match self.text(*span) {
                Some(text) => texts.extend(self.elements(text).into_iter().map(Some)),
                None => valid[row] = false,
            }
            offsets.push(offset(texts.len()).map_err(|e| (row, e))?);
        }
        let values = self
            .scalars(element, &texts)
            .map_err(|(i, reason)| (offsets.partition_point(|&o| o as usize <= i).saturating_sub(1), reason))?;
        let ArrowType::List(field) = ty.to_arrow() else { return Err((0, format!("{ty} is not a list"))) };
        let array = ListArray::try_new(field, OffsetBuffer::new(offsets.into()), values, nulls(valid));
        Ok(Arc::new(array.map_err(|e| (0, e.to_string()))?))
    }

    fn rows(&self, ty: &LogicalType, fields: &[(String, DataType)], spans: &[Span]) -> Result<ArrayRef, ValueError> {
        let mut texts: Vec<Vec<Option<&[u8]>>> = vec![vec![None; spans.len()]; fields.len()];
        let mut valid = vec![true; spans.len()];
        for (row, span) in spans.iter().enumerate() {
            let Some(text) = self.text(*span) else {
                valid[row] = false;
                continue;
            };
            let elements = self.elements(text);
            if elements.len() != fields.len() {
                if !self.options.ignore_parse_errors {
                    return Err((row, format!("{} fields expected but {} found", fields.len(), elements.len())));
                }
                valid[row] = false;
                continue;
            }
            for (column, element) in texts.iter_mut().zip(elements) {
                column[row] = Some(element);
            }
        }
        let ArrowType::Struct(arrow_fields) = ty.to_arrow() else { return Err((0, format!("{ty} is not a struct"))) };
        let columns = fields.iter().zip(&texts).map(|((name, field), texts)| {
            self.scalars(&field.logical, texts).map_err(|(row, reason)| (row, format!("field '{name}': {reason}")))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let array = StructArray::try_new_with_length(arrow_fields, columns, nulls(valid), spans.len());
        Ok(Arc::new(array.map_err(|e| (0, e.to_string()))?))
    }
}
