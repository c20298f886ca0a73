//! Finding records and fields in separated values.

use super::CsvOptions;
use crate::formats::decoder::Span;

/// Offsets from here on lie in the scratch buffer instead of the data.
const SCRATCH: u32 = 1 << 31;

/// The fields of one record.
#[derive(Default)]
pub struct Fields {
    /// Where each field's text lies, see [`Fields::text`].
    pub spans: Vec<Span>,
    /// Texts of fields that had to be put together (doubled quotes, escapes).
    pub scratch: Vec<u8>,
}

impl Fields {
    /// The text at `span`.
    #[inline]
    pub fn text<'a>(scratch: &'a [u8], data: &'a [u8], span: Span) -> &'a [u8] {
        let (bytes, start, end) = match span.start & SCRATCH {
            0 => (data, span.start, span.end),
            _ => (scratch, span.start & !SCRATCH, span.end & !SCRATCH),
        };
        &bytes[start as usize..end as usize]
    }

    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.scratch.len() as u32;
        self.scratch.extend_from_slice(text);
        Span { start: start | SCRATCH, end: self.scratch.len() as u32 | SCRATCH }
    }
}

/// What lies at an offset.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A record or a comment that ends before this offset.
    Record(usize),
    /// A skipped line that ends before this offset.
    Comment(usize),
    /// The data ends within the record.
    Incomplete,
}

/// Reads the record at `at` into `fields`, behind what is there.
///
/// # Errors
/// What is wrong with the record, and the offset behind its line.
pub fn record(
    options: &CsvOptions,
    data: &[u8],
    at: usize,
    at_end: bool,
    fields: &mut Fields,
) -> Result<Found, (String, usize)> {
    if options.comments {
        let first = at + data[at..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if data.get(first) == Some(&b'#') {
            return Ok(match line_end(data, first, at_end) {
                Some(end) => Found::Comment(end),
                None => Found::Incomplete,
            });
        }
    }
    let mut at = at;
    loop {
        let field = field(options, data, at, at_end, fields)?;
        match field {
            Field::Incomplete => return Ok(Found::Incomplete),
            Field::Next(next) => at = next,
            Field::Last(end) => return Ok(Found::Record(end)),
        }
    }
}

enum Field {
    /// Another field begins here.
    Next(usize),
    /// It was the last; the next record begins here.
    Last(usize),
    Incomplete,
}

fn line_end(data: &[u8], at: usize, at_end: bool) -> Option<usize> {
    match memchr::memchr2(b'\n', b'\r', &data[at..]) {
        Some(i) => line_break(data, at + i, at_end),
        None => at_end.then_some(data.len()),
    }
}

/// The offset behind the line break at `at`; `None` if a `\n` may still follow a `\r`.
fn line_break(data: &[u8], at: usize, at_end: bool) -> Option<usize> {
    if data[at] == b'\n' {
        return Some(at + 1);
    }
    match data.get(at + 1) {
        Some(b'\n') => Some(at + 2),
        Some(_) => Some(at + 1),
        None => at_end.then_some(at + 1),
    }
}

fn field(
    options: &CsvOptions,
    data: &[u8],
    at: usize,
    at_end: bool,
    fields: &mut Fields,
) -> Result<Field, (String, usize)> {
    let start = if options.trim_spaces { at + spaces(&data[at..]) } else { at };
    if options.quote.is_some() && data.get(start).copied() == options.quote {
        return quoted(options, data, start, at_end, fields);
    }
    let mut end = start;
    let mut own: Option<Vec<u8>> = None;
    loop {
        let Some(&b) = data.get(end) else {
            if !at_end {
                return Ok(Field::Incomplete);
            }
            close(options, data, start, end, own, fields);
            return Ok(Field::Last(end));
        };
        if b == options.delimiter {
            close(options, data, start, end, own, fields);
            return Ok(Field::Next(end + 1));
        }
        if b == b'\n' || b == b'\r' {
            let Some(next) = line_break(data, end, at_end) else { return Ok(Field::Incomplete) };
            close(options, data, start, end, own, fields);
            return Ok(Field::Last(next));
        }
        if options.escape == Some(b) {
            let Some(&escaped) = data.get(end + 1) else {
                return if at_end {
                    Err(("the data ends in an escape character".into(), end + 1))
                } else {
                    Ok(Field::Incomplete)
                };
            };
            own.get_or_insert_with(|| data[start..end].to_vec()).push(resolve(escaped));
            end += 2;
            continue;
        }
        if let Some(own) = &mut own {
            own.push(b);
        }
        end += 1;
    }
}

fn spaces(data: &[u8]) -> usize {
    data.iter().take_while(|b| **b == b' ').count()
}

fn close(options: &CsvOptions, data: &[u8], start: usize, mut end: usize, own: Option<Vec<u8>>, fields: &mut Fields) {
    let span = match own {
        Some(text) => fields.put(if options.trim_spaces { text.trim_ascii_end() } else { &text }),
        None => {
            while options.trim_spaces && end > start && data[end - 1] == b' ' {
                end -= 1;
            }
            Span::new(start, end)
        }
    };
    fields.spans.push(span);
}

fn resolve(escaped: u8) -> u8 {
    match escaped {
        b'0' => 0,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

/// The field whose opening quote is at `start`.
fn quoted(
    options: &CsvOptions,
    data: &[u8],
    start: usize,
    at_end: bool,
    fields: &mut Fields,
) -> Result<Field, (String, usize)> {
    let quote = options.quote.unwrap_or(b'"');
    let escape = options.escape.unwrap_or(quote);
    let mut at = start + 1;
    let mut from = at;
    let mut own: Option<Vec<u8>> = None;
    let end = loop {
        let Some(i) = memchr::memchr2(quote, escape, &data[at.min(data.len())..]) else {
            if at_end {
                return Err(("a quoted field does not end".into(), data.len()));
            }
            return Ok(Field::Incomplete);
        };
        let found = at + i;
        match data.get(found + 1) {
            None if !at_end => return Ok(Field::Incomplete),
            Some(&next) if data[found] == quote && next == quote => {
                own.get_or_insert_default().extend_from_slice(&data[from..=found]);
            }
            Some(&next) if data[found] != quote => {
                let own = own.get_or_insert_default();
                own.extend_from_slice(&data[from..found]);
                own.push(resolve(next));
            }
            None if data[found] != quote => return Err(("the data ends in an escape character".into(), data.len())),
            _ => break found,
        }
        at = found + 2;
        from = at;
    };
    let span = match own {
        Some(mut text) => {
            text.extend_from_slice(&data[from..end]);
            fields.put(&text)
        }
        None => Span::new(from, end),
    };
    fields.spans.push(span);
    let behind = end + 1 + spaces(&data[end + 1..]);
    match data.get(behind) {
        None if at_end => Ok(Field::Last(behind)),
        None => Ok(Field::Incomplete),
        Some(&b) if b == options.delimiter => Ok(Field::Next(behind + 1)),
        Some(b'\n' | b'\r') => match line_break(data, behind, at_end) {
            Some(next) => Ok(Field::Last(next)),
            None => Ok(Field::Incomplete),
        },
        Some(&b) => {
            // The whole line is refused, so its end must be there.
            let Some(next) = line_end(data, behind, at_end) else { return Ok(Field::Incomplete) };
            Err((
                format!("expected '{}' behind a quoted field, found '{}'", options.delimiter as char, b as char),
                next,
            ))
        }
    }
}
