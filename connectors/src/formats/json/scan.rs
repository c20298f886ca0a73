//! Finding the parts of JSON text without building anything from it.

use std::borrow::Cow;

use crate::formats::decoder::Span;

/// Deeper nesting than this is refused.
const MAX_DEPTH: usize = 512;

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Offset of the byte that does not fit.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

type Result<T> = std::result::Result<T, SyntaxError>;

fn expected<T>(at: usize, expected: &'static str) -> Result<T> {
    Err(SyntaxError { at, expected })
}

/// The first offset from `at` that is not white space.
#[inline]
pub fn skip_space(data: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = data.get(at) {
        at += 1;
    }
    at
}

/// The offset behind the value that begins at `at`.
pub fn skip_value(data: &[u8], at: usize) -> Result<usize> {
    skip_nested(data, at, 0)
}

fn skip_nested(data: &[u8], at: usize, depth: usize) -> Result<usize> {
    match data.get(at) {
        Some(b'"') => skip_string(data, at),
        Some(b'-' | b'0'..=b'9') => skip_number(data, at),
        Some(b't') => skip_word(data, at, b"true"),
        Some(b'f') => skip_word(data, at, b"false"),
        Some(b'n') => skip_word(data, at, b"null"),
        Some(b'{' | b'[') if depth == MAX_DEPTH => expected(at, "less deeply nested values"),
        Some(b'{') => members(data, at, depth, |_, _| {}),
        Some(b'[') => elements(data, at, depth, |_| {}),
        _ => expected(at, "a value"),
    }
}

fn skip_word(data: &[u8], at: usize, word: &[u8]) -> Result<usize> {
    if data[at..].starts_with(word) { Ok(at + word.len()) } else { expected(at, "a value") }
}

/// The offset behind the string whose opening quote is at `at`.
#[inline]
fn skip_string(data: &[u8], at: usize) -> Result<usize> {
    let mut from = at + 1;
    // Most strings are short, so eight bytes at a time in place beat a call.
    while let Some(word) = data.get(from..).and_then(<[u8]>::first_chunk::<8>) {
        match first_special(u64::from_le_bytes(*word)) {
            8 => from += 8,
            i if word[i] == b'"' => return Ok(from + i + 1),
            i => from += i + 2,
        }
    }
    loop {
        match data.get(from) {
            Some(b'"') => return Ok(from + 1),
            Some(b'\\') => from += 2,
            Some(_) => from += 1,
            None => return expected(data.len(), "the end of a string"),
        }
    }
}

/// The position of the first quote or backslash of eight bytes; 8 if there is none.
#[inline]
fn first_special(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    // Sets the highest bit of the first zero byte; bits behind it may be wrong.
    let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
    let found = zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64));
    found.trailing_zeros() as usize / 8
}

fn skip_number(data: &[u8], mut at: usize) -> Result<usize> {
    let digits = |at: &mut usize| {
        let from = *at;
        while data.get(*at).is_some_and(u8::is_ascii_digit) {
            *at += 1;
        }
        *at > from
    };
    if data[at] == b'-' {
        at += 1;
    }
    if !digits(&mut at) {
        return expected(at, "a digit");
    }
    if data.get(at) == Some(&b'.') {
        at += 1;
        if !digits(&mut at) {
            return expected(at, "a digit");
        }
    }
    if let Some(b'e' | b'E') = data.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = data.get(at) {
            at += 1;
        }
        if !digits(&mut at) {
            return expected(at, "a digit");
        }
    }
    Ok(at)
}

/// Walks over the object at `at`: `member` gets each key (without quotes, still escaped) and where
/// its value lies. Returns the offset behind the object.
pub fn object(data: &[u8], at: usize, member: impl FnMut(Span, Span)) -> Result<usize> {
    if data.get(at) != Some(&b'{') {
        return expected(at, "an object");
    }
    members(data, at, 0, member)
}

fn members(data: &[u8], at: usize, depth: usize, mut member: impl FnMut(Span, Span)) -> Result<usize> {
    let mut at = skip_space(data, at + 1);
    if data.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if data.get(at) != Some(&b'"') {
            return expected(at, "a field name in double quotes");
        }
        let key_end = skip_string(data, at)?;
        let key = Span::new(at + 1, key_end - 1);
        at = skip_space(data, key_end);
        if data.get(at) != Some(&b':') {
            return expected(at, "':'");
        }
        at = skip_space(data, at + 1);
        let end = skip_nested(data, at, depth + 1)?;
        member(key, Span::new(at, end));
        at = skip_space(data, end);
        match data.get(at) {
            Some(b',') => at = skip_space(data, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return expected(at, "',' or '}'"),
        }
    }
}

/// Walks over the array at `at`: `element` gets where each element lies. Returns the offset behind
/// the array.
pub fn array(data: &[u8], at: usize, element: impl FnMut(Span)) -> Result<usize> {
    if data.get(at) != Some(&b'[') {
        return expected(at, "an array");
    }
    elements(data, at, 0, element)
}

fn elements(data: &[u8], at: usize, depth: usize, mut element: impl FnMut(Span)) -> Result<usize> {
    let mut at = skip_space(data, at + 1);
    if data.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let end = skip_nested(data, at, depth + 1)?;
        element(Span::new(at, end));
        at = skip_space(data, end);
        match data.get(at) {
            Some(b',') => at = skip_space(data, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return expected(at, "',' or ']'"),
        }
    }
}

/// The text of a string without its quotes, escapes resolved.
pub fn unescape(raw: &[u8]) -> std::result::Result<Cow<'_, [u8]>, String> {
    let Some(first) = memchr::memchr(b'\\', raw) else { return Ok(Cow::Borrowed(raw)) };
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    let mut next = Some(first);
    while let Some(i) = next {
        out.extend_from_slice(&raw[at..at + i]);
        at += i + 1;
        let escape = *raw.get(at).ok_or("a string ends in a backslash")?;
        at += 1;
        match escape {
            b'"' | b'\\' | b'/' => out.push(escape),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let c = unicode(raw, &mut at)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => return Err(format!("'\\{}' is no escape", other as char)),
        }
        next = memchr::memchr(b'\\', &raw[at..]);
    }
    out.extend_from_slice(&raw[at..]);
    Ok(Cow::Owned(out))
}

/// The character of `\uXXXX` with `at` behind the `u`. A pair of surrogates is one character; a
/// lone one becomes the replacement character.
fn unicode(raw: &[u8], at: &mut usize) -> std::result::Result<char, String> {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let high = unit(*at).ok_or("\\u needs four hex digits")?;
    *at += 4;
    let is_pair = (0xD800..0xDC00).contains(&high) && raw.get(*at..*at + 2) == Some(b"\\u");
    if let Some(low) = unit(*at + 2).filter(|low| is_pair && (0xDC00..0xE000).contains(low)) {
        *at += 6;
        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// Appends `raw` (any JSON value) without white space between its tokens.
pub fn compact(out: &mut Vec<u8>, raw: &[u8]) {
    let mut at = 0;
    while at < raw.len() {
        match raw[at] {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'"' => {
                let end = skip_string(raw, at).unwrap_or(raw.len());
                out.extend_from_slice(&raw[at..end]);
                at = end;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
}
