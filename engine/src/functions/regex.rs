//! Regular expressions with Java's syntax, LIKE and SIMILAR TO.
//!
//! Patterns run on the `regex` crate after translation of what Java means differently (`\d`, `\w`
//! and `\s` are ASCII). Look-around and back references are refused with an error. A pattern that
//! is no regular expression gives NULL or FALSE, as in Flink.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder};
use regex::Regex;

use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::value::{Kernel, Value, argument};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let kernel: Kernel = match call.name {
        "REGEXP" => with_pattern(call, 1, |values, rows, regexes| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            let array = each(rows, regexes, |row, regex| {
                text.get(row).map(|s| regex.is_some_and(|r| !r.as_str().is_empty() && r.is_match(s)))
            })?;
            Ok(Arc::new(BooleanArray::from(array)) as ArrayRef)
        })?,
        "REGEXP_REPLACE" => with_pattern(call, 1, |values, rows, regexes| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            let replacement = argument(values, 2)?.view::<StringArray>()?;
            strings(rows, regexes, |row, regex| {
                let (s, by) = (text.get(row)?, replacement.get(row)?);
                Some(replace_all(regex?, s, by))
            })
        })?,
        "REGEXP_EXTRACT" => {
            let grouped = call.arguments.len() > 2;
            with_pattern(call, 1, move |values, rows, regexes| {
                let text = argument(values, 0)?.view::<StringArray>()?;
                let group = if grouped { Some(argument(values, 2)?.longs()?) } else { None };
                strings(rows, regexes, |row, regex| {
                    let group = match &group {
                        Some(group) => usize::try_from(group.get(row)?).ok()?,
                        None => 0,
                    };
                    let s = text.get(row)?;
                    let regex = regex?;
                    if group >= regex.captures_len() {
                        return None;
                    }
                    if group == 0 {
                        return regex.find(s).map(|m| m.as_str().to_owned());
                    }
                    regex.captures(s)?.get(group).map(|m| m.as_str().to_owned())
                })
            })?
        }
        "REGEXP_EXTRACT_ALL" => {
            let grouped = call.arguments.len() > 2;
            with_pattern(call, 1, move |values, rows, regexes| extract_all(values, rows, grouped, regexes))?
        }
        "REGEXP_COUNT" => with_pattern(call, 1, |values, rows, regexes| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            let array = each(rows, regexes, |row, regex| {
                let s = text.get(row)?;
                Some(occurrences(regex?, s).count() as i32)
            })?;
            Ok(Arc::new(Int32Array::from(array)) as ArrayRef)
        })?,
        "REGEXP_INSTR" => with_pattern(call, 1, |values, rows, regexes| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            let array = each(rows, regexes, |row, regex| {
                let s = text.get(row)?;
                Some(regex?.find(s).map_or(0, |m| s[..m.start()].chars().count() as i32 + 1))
            })?;
            Ok(Arc::new(Int32Array::from(array)) as ArrayRef)
        })?,
        "REGEXP_SUBSTR" => with_pattern(call, 1, |values, rows, regexes| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            strings(rows, regexes, |row, regex| {
                let s = text.get(row)?;
                regex?.find(s).map(|m| m.as_str().to_owned())
            })
        })?,
        "LIKE" | "SIMILAR TO" => return like(call).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(Function::pure(kernel)))
}

/// The patterns of a batch: one for all rows, or by row.
enum Patterns<'a> {
    One(Option<&'a Regex>),
    /// The pattern is NULL for all rows.
    Null,
    Rows(Vec<Option<usize>>, Vec<Option<Regex>>),
}

/// Calls `f` for each row whose pattern is not NULL, with the regex or `None` for a bad pattern.
fn each<R>(
    rows: usize,
    patterns: &Patterns<'_>,
    f: impl Fn(usize, Option<&Regex>) -> Option<R>,
) -> Result<Vec<Option<R>>> {
    Ok((0..rows)
        .map(|row| match patterns {
            Patterns::One(regex) => f(row, *regex),
            Patterns::Null => None,
            Patterns::Rows(index, regexes) => f(row, regexes[index[row]?].as_ref()),
        })
        .collect())
}

fn strings(
    rows: usize,
    patterns: &Patterns<'_>,
    f: impl Fn(usize, Option<&Regex>) -> Option<String>,
) -> Result<ArrayRef> {
    Ok(Arc::new(StringArray::from(each(rows, patterns, f)?)))
}

/// The places where `regex` matches, as Java finds them: an empty match may follow right behind
/// another match.
fn occurrences<'t>(regex: &'t Regex, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
    let mut from = Some(0);
    std::iter::from_fn(move || {
        let start = from?;
        let Some(found) = regex.find_at(text, start) else {
            from = None;
            return None;
        };
        from = if found.is_empty() {
            text[found.end()..].chars().next().map(|c| found.end() + c.len_utf8())
        } else {
            Some(found.end())
        };
        Some((found.start(), found.end()))
    })
}

/// Every match replaced by `by` as it is.
fn replace_all(regex: &Regex, text: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (start, end) in occurrences(regex, text) {
        out.push_str(&text[copied..start]);
        out.push_str(by);
        copied = end;
    }
    out.push_str(&text[copied..]);
    out
}

/// A kernel over the regex in argument `position`: compiled once when it is a literal.
fn with_pattern(
    call: &Call<'_>,
    position: usize,
    f: impl Fn(&[Value], usize, &Patterns<'_>) -> Result<ArrayRef> + Send + Sync + 'static,
) -> Result<Kernel> {
    if let Some(text) = call.text(position) {
        let regex = java_regex(text)?;
        return Ok(Arc::new(move |values, rows| f(values, rows, &Patterns::One(regex.as_ref()))));
    }
    Ok(Arc::new(move |values: &[Value], rows| {
        let pattern = argument(values, position)?;
        let texts = pattern.view::<StringArray>()?;
        if pattern.constant {
            let Some(text) = texts.get(0) else { return f(values, rows, &Patterns::Null) };
            let regex = java_regex(text)?;
            return f(values, rows, &Patterns::One(regex.as_ref()));
        }
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut regexes = Vec::new();
        let mut index = Vec::with_capacity(rows);
        for row in 0..rows {
            let Some(text) = texts.get(row) else {
                index.push(None);
                continue;
            };
            let at = match known.get(text) {
                Some(at) => *at,
                None => {
                    regexes.push(java_regex(text)?);
                    known.insert(text, regexes.len() - 1);
                    regexes.len() - 1
                }
            };
            index.push(Some(at));
        }
        f(values, rows, &Patterns::Rows(index, regexes))
    }))
}

fn extract_all(values: &[Value], rows: usize, grouped: bool, patterns: &Patterns<'_>) -> Result<ArrayRef> {
    let text = argument(values, 0)?.view::<StringArray>()?;
    let group = if grouped { Some(argument(values, 2)?.longs()?) } else { None };
    let found = each(rows, patterns, |row, regex| {
        let group = match &group {
            Some(group) => usize::try_from(group.get(row)?).ok()?,
            None => 1,
        };
        let s = text.get(row)?;
        let regex = regex?;
        if group >= regex.captures_len() {
            return None;
        }
        Some(regex.captures_iter(s).map(|c| c.get(group).map(|m| m.as_str())).collect::<Vec<_>>())
    })?;
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in found {
        match row {
            Some(parts) => {
                parts.into_iter().for_each(|part| builder.values().append_option(part));
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Java's regular expression; `None` when the text is none.
///
/// # Errors
/// Unsupported: look-around, back references, possessive quantifiers.
pub(super) fn java_regex(pattern: &str) -> Result<Option<Regex>> {
    match Regex::new(&translate(pattern)) {
        Ok(regex) => Ok(Some(regex)),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(EngineError::Unsupported(format!("the regular expression '{pattern}' is too large")))
        }
        Err(_) if beyond_automata(pattern) => Err(EngineError::Unsupported(format!(
            "the regular expression '{pattern}' uses look-around, a back reference or a possessive quantifier, \
             which are not supported"
        ))),
        Err(_) => Ok(None),
    }
}

fn beyond_automata(pattern: &str) -> bool {
    let look = ["(?=", "(?!", "(?<=", "(?<!", "(?>", "*+", "++", "?+", "}+", "\\k<"];
    let back_reference = pattern.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && (b'1'..=b'9').contains(&pair[1]));
    back_reference || look.iter().any(|part| pattern.contains(part))
}

/// What Java writes the same but means differently.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str(if depth > 0 { "0-9" } else { "[0-9]" }),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str(if depth > 0 { "a-zA-Z0-9_" } else { "[a-zA-Z0-9_]" }),
                Some('W') => out.push_str("[^a-zA-Z0-9_]"),
                Some('s') => out.push_str(if depth > 0 { r" \t\n\x0B\f\r" } else { r"[ \t\n\x0B\f\r]" }),
                Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
                Some('h') => out.push_str(if depth > 0 { r" \t" } else { r"[ \t]" }),
                Some('Z') => out.push_str(r"\z"),
                Some('e') => out.push_str(r"\x1B"),
                Some('Q') => {
                    let mut quoted = String::new();
                    while let Some(q) = chars.next() {
                        if q == '\\' && chars.peek() == Some(&'E') {
                            chars.next();
                            break;
                        }
                        quoted.push(q);
                    }
                    out.push_str(&regex::escape(&quoted));
                }
                Some('p') => posix(&mut out, &mut chars, false),
                Some('P') => posix(&mut out, &mut chars, true),
                Some(other) if !other.is_ascii() || other == ' ' || other == '/' || other == '_' => out.push(other),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' => {
                depth += 1;
                out.push('[');
            }
            ']' => {
                depth = depth.saturating_sub(1);
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

/// `\p{Alpha}` and its like are ASCII classes in Java.
fn posix(out: &mut String, chars: &mut std::iter::Peekable<std::str::Chars<'_>>, negated: bool) {
    let mut name = String::new();
    let braced = chars.peek() == Some(&'{');
    if braced {
        chars.next();
        for c in chars.by_ref() {
            if c == '}' {
                break;
            }
            name.push(c);
        }
    } else {
        name.extend(chars.next());
    }
    let class = match name.as_str() {
        "Alpha" | "Digit" | "Alnum" | "Upper" | "Lower" | "Punct" | "Graph" | "Print" | "Blank" | "Cntrl"
        | "XDigit" | "Space" => name.to_lowercase(),
        _ => {
            let sign = if negated { 'P' } else { 'p' };
            let plain = name.strip_prefix("Is").unwrap_or(&name);
            out.push_str(&format!("\\{sign}{{{plain}}}"));
            return;
        }
    };
    out.push_str(&format!("[{}[:{class}:]]", if negated { "^" } else { "" }));
}

/// `s LIKE pattern [ESCAPE e]`.
fn like(call: &Call<'_>) -> Result<Function> {
    let similar = call.name == "SIMILAR TO";
    let escaped = call.arguments.len() > 2;
    let literal_escape = if escaped { call.text(2) } else { None };
    if let (Some(pattern), true) = (call.text(1), !escaped || literal_escape.is_some()) {
        let matcher = Matcher::new(pattern, literal_escape, similar)?;
        return Ok(Function::pure(Arc::new(move |values: &[Value], rows: usize| {
            let text = argument(values, 0)?.view::<StringArray>()?;
            let array: BooleanArray = (0..rows).map(|row| text.get(row).map(|s| matcher.matches(s))).collect();
            Ok(Arc::new(array) as ArrayRef)
        })));
    }
    Ok(Function::fallible(Arc::new(move |values: &[Value], rows: usize| {
        let text = argument(values, 0)?.view::<StringArray>()?;
        let pattern = argument(values, 1)?.view::<StringArray>()?;
        let escape = if escaped { Some(argument(values, 2)?.view::<StringArray>()?) } else { None };
        let array = (0..rows)
            .map(|row| {
                let (Some(s), Some(pattern)) = (text.get(row), pattern.get(row)) else { return Ok(None) };
                let escape = match &escape {
                    Some(escape) => match escape.get(row) {
                        Some(e) => Some(e),
                        None => return Ok(None),
                    },
                    None => None,
                };
                Ok(Some(Matcher::new(pattern, escape, similar)?.matches(s)))
            })
            .collect::<Result<BooleanArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    })))
}

/// A LIKE or SIMILAR TO pattern.
enum Matcher {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(Regex),
}

impl Matcher {
    fn new(pattern: &str, escape: Option<&str>, similar: bool) -> Result<Matcher> {
        let escape = match escape {
            Some(text) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => Some(c),
                    (None, _) if !similar => None,
                    _ => {
                        return Err(EngineError::Runtime(format!("ESCAPE needs exactly one character, not '{text}'")));
                    }
                }
            }
            None => None,
        };
        if similar {
            return similar_regex(pattern, escape).map(Matcher::Regex);
        }
        if escape.is_none() && !pattern.contains('_') {
            let inner = pattern.trim_matches('%');
            if !inner.contains('%') {
                match (pattern.starts_with('%'), pattern.ends_with('%')) {
                    (false, false) => return Ok(Matcher::Equals(pattern.to_owned())),
                    (true, true) => return Ok(Matcher::Contains(inner.to_owned())),
                    (true, false) => return Ok(Matcher::EndsWith(inner.to_owned())),
                    (false, true) => return Ok(Matcher::StartsWith(inner.to_owned())),
                }
            }
        }
        like_regex(pattern, escape).map(Matcher::Regex)
    }

    fn matches(&self, s: &str) -> bool {
        match self {
            Matcher::Equals(text) => s == text,
            Matcher::StartsWith(text) => s.starts_with(text.as_str()),
            Matcher::EndsWith(text) => s.ends_with(text.as_str()),
            Matcher::Contains(text) => s.contains(text.as_str()),
            Matcher::Regex(regex) => regex.is_match(s),
        }
    }
}

fn bad_escape(pattern: &str) -> EngineError {
    EngineError::Runtime(format!(
        "the pattern '{pattern}' has its escape character before something else than %, _ or itself"
    ))
}

fn like_regex(pattern: &str, escape: Option<char>) -> Result<Regex> {
    let mut out = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some(next) if next == '%' || next == '_' || Some(next) == escape => {
                    out.push_str(&regex::escape(&next.to_string()));
                }
                _ => return Err(bad_escape(pattern)),
            }
            continue;
        }
        match c {
            '%' => out.push_str("(?s:.*)"),
            // One code point, but no line break.
            '_' => out.push('.'),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    Regex::new(&out).map_err(|e| EngineError::Runtime(format!("cannot use the pattern '{pattern}': {e}")))
}

/// `%`, `_`, `|`, `*`, `+`, `?`, `{n}`, `( )`, `[ ]` as SQL defines them.
fn similar_regex(pattern: &str, escape: Option<char>) -> Result<Regex> {
    let bad = |reason: &str| EngineError::Runtime(format!("cannot use the SIMILAR TO pattern '{pattern}': {reason}"));
    let mut out = String::from("(?s)^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some(next) if "[]()|^-+*_%?{}".contains(next) || Some(next) == escape => {
                    out.push_str(&regex::escape(&next.to_string()));
                }
                _ => return Err(bad_escape(pattern)),
            }
            continue;
        }
        match c {
            '[' => {
                in_class = true;
                out.push('[');
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '_' if !in_class => out.push('.'),
            '%' if !in_class => out.push_str(".*"),
            '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' if !in_class => out.push(c),
            '^' | '-' | ':' if in_class => out.push(c),
            '.' => out.push('.'),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push_str(")$");
    let out = ["ALPHA", "UPPER", "LOWER", "DIGIT", "SPACE", "ALNUM"]
        .iter()
        .fold(out, |out, name| out.replace(&format!("[:{name}:]"), &format!("[:{}:]", name.to_lowercase())));
    Regex::new(&out).map_err(|e| bad(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_classes_are_ascii() {
        let digits = java_regex(r"^\d+$").unwrap().unwrap();
        assert!(digits.is_match("12"));
        assert!(!digits.is_match("٣"));
        let inside = java_regex(r"[\d,]+").unwrap().unwrap();
        assert_eq!(inside.find("x1,2").unwrap().as_str(), "1,2");
        assert!(java_regex("(").unwrap().is_none());
        let stars = java_regex("a*").unwrap().unwrap();
        assert_eq!(replace_all(&stars, "aaa", "#"), "##");
        assert_eq!(replace_all(&stars, "fab", "#"), "#f##b#");
        assert!(java_regex(r"\Qa.b\E").unwrap().unwrap().is_match("a.b"));
    }

    #[test]
    fn like_has_no_default_escape() {
        let like = |s: &str, p: &str, e: Option<&str>| Matcher::new(p, e, false).unwrap().matches(s);
        assert!(like("abc", "a%", None));
        assert!(like("abc", "%b%", None));
        assert!(!like("a\nc", "a_c", None));
        assert!(like("a\nc", "a%c", None));
        assert!(!like("a%c", "a\\%c", None));
        assert!(like("a%c", "a!%c", Some("!")));
        assert!(Matcher::new("a!bc", Some("!"), false).is_err());
        assert!(Matcher::new("(a|b)c+", None, true).unwrap().matches("bcc"));
    }
}
