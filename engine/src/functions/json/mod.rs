//! JSON functions: JSON_VALUE, JSON_QUERY, JSON_EXISTS, IS JSON, constructors, quoting.
//!
//! A path is strict unless it says lax. In strict mode what is missing, JSON null, and a value of
//! the wrong shape are errors; in lax mode they are empty. What happens then is said by literals
//! among the arguments.

mod path;
mod value;

use self::value::Json;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{Float32Type, Float64Type};
use hurtig_graph::{DataType, Expr, ExprKind, LogicalType as T};

use self::path::{Found, Path};
use self::value::big_decimal;
use super::encode::base64;
use super::{Call, Function};
use crate::error::{EngineError, Result};
use crate::expr::cast::{self, to_text};
use crate::expr::format::Moment;
use crate::expr::value::{Kernel, Value, argument, rowwise};
use crate::expr::zone::{Zone, civil};

pub(super) fn find(call: &Call<'_>) -> Result<Option<Function>> {
    let pure = |kernel: Kernel| Ok(Some(Function::pure(kernel)));
    match call.name {
        "JSON_EXISTS" => json_exists(call).map(Some),
        "JSON_VALUE" => json_value(call).map(Some),
        "JSON_QUERY" => json_query(call).map(Some),
        "IS JSON" => pure(is_json(call)?),
        "JSON_QUOTE" => pure(rowwise!((s: StringArray) -> StringArray, Ok(Some(quote(s))))),
        "JSON_UNQUOTE" => pure(rowwise!((s: StringArray) -> StringArray, Ok(Some(unquote(s))))),
        "JSON" => Ok(Some(Function::fallible(rowwise!((s: StringArray) -> StringArray, match Json::parse(s) {
            Some(value) => Ok(Some(value.to_string())),
            None => Err(EngineError::Runtime(format!("JSON: '{s}' is not JSON"))),
        })))),
        "JSON_STRING" => Ok(Some(Function::fallible(json_string(call)?))),
        "JSON_OBJECT" => Ok(Some(Function::fallible(json_object(call)?))),
        "JSON_ARRAY" => Ok(Some(Function::fallible(json_array(call)?))),
        _ => Ok(None),
    }
}

/// The literal at `position`.
fn option(call: &Call<'_>, position: usize) -> Result<String> {
    call.text(position)
        .map(str::to_owned)
        .ok_or_else(|| EngineError::Validation(format!("{} needs a literal as argument {}", call.name, position + 1)))
}

/// What a path leads to in a document.
enum Lookup {
    Value(Json),
    /// Lax mode: nothing there.
    Empty,
    /// No JSON, no path, or strict mode and nothing there.
    Error,
}

/// What each row's path leads to, and whether the path is lax; `None` where an argument is NULL.
type Lookups = Vec<Option<(Lookup, bool)>>;

/// The path of each row, read once when it is a literal.
fn lookups(call: &Call<'_>) -> impl Fn(&[Value], usize) -> Result<Lookups> + Send + Sync + 'static + use<> {
    let literal = call.text(1).map(Path::parse);
    move |values, rows| {
        let documents = argument(values, 0)?.view::<StringArray>()?;
        let paths = argument(values, 1)?.view::<StringArray>()?;
        Ok((0..rows)
            .map(|row| {
                let (document, text) = (documents.get(row)?, paths.get(row)?);
                let path = match &literal {
                    Some(path) => path.clone(),
                    None => Path::parse(text),
                };
                let Some(path) = path else { return Some((Lookup::Error, false)) };
                let Some((root, _)) = Json::read(document) else { return Some((Lookup::Error, path.lax)) };
                let found = match path.find(&root) {
                    Found::Value(value) => Lookup::Value(value),
                    Found::Nothing if path.lax => Lookup::Empty,
                    Found::Nothing => Lookup::Error,
                };
                Some((found, path.lax))
            })
            .collect())
    }
}

fn failed(function: &str, what: &str) -> EngineError {
    EngineError::Runtime(format!("{function}: {what}; say NULL ON ERROR or DEFAULT to go on"))
}

/// JSON_EXISTS(document, path, on error).
fn json_exists(call: &Call<'_>) -> Result<Function> {
    let on_error = option(call, 2)?;
    let lookups = lookups(call);
    Ok(Function::fallible(Arc::new(move |values: &[Value], rows| {
        let array = lookups(values, rows)?
            .into_iter()
            .map(|found| match found {
                None => Ok(None),
                Some((Lookup::Value(_), _)) => Ok(Some(true)),
                Some((Lookup::Empty, _)) => Ok(Some(false)),
                Some((Lookup::Error, _)) => match on_error.as_str() {
                    "TRUE" => Ok(Some(true)),
                    "UNKNOWN" => Ok(None),
                    "ERROR" => Err(failed("JSON_EXISTS", "the path does not fit the document")),
                    _ => Ok(Some(false)),
                },
            })
            .collect::<Result<BooleanArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    })))
}

/// JSON_VALUE(document, path, on empty, on error, default on empty, default on error).
fn json_value(call: &Call<'_>) -> Result<Function> {
    let (on_empty, on_error) = (option(call, 2)?, option(call, 3)?);
    let lookups = lookups(call);
    let result = call.result.logical.clone();
    let to_result = cast::cast(&T::STRING, &result, false, Zone::UTC)?;
    Ok(Function::fallible(Arc::new(move |values: &[Value], rows| {
        // Row by row either a text to cast, or a default.
        let mut texts: Vec<Option<String>> = Vec::with_capacity(rows);
        let mut defaults: Vec<Option<usize>> = Vec::with_capacity(rows);
        for found in lookups(values, rows)? {
            let (handling, default, what) = match found {
                None => {
                    texts.push(None);
                    defaults.push(None);
                    continue;
                }
                Some((Lookup::Value(value), _)) if value.is_scalar() => {
                    check_type(&value, &result)?;
                    texts.push(Some(value.scalar_text()));
                    defaults.push(None);
                    continue;
                }
                Some((Lookup::Empty, _)) | Some((Lookup::Value(_), true)) => (&on_empty, 4, "there is no value"),
                Some(_) => (&on_error, 5, "there is no scalar value"),
            };
            texts.push(None);
            defaults.push(match handling.as_str() {
                "ERROR" => return Err(failed("JSON_VALUE", what)),
                "DEFAULT" => Some(default),
                _ => None,
            });
        }
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let read = match &to_result {
            Some(cast) => cast(&[Value { array: texts, constant: false }], rows)?,
            None => texts,
        };
        if defaults.iter().all(Option::is_none) {
            return Ok(read);
        }
        let (empty, error) = (argument(values, 4)?, argument(values, 5)?);
        let indices: Vec<(usize, usize)> = defaults
            .iter()
            .enumerate()
            .map(|(row, default)| match default {
                Some(4) => (1, empty.index(row)),
                Some(_) => (2, error.index(row)),
                None => (0, row),
            })
            .collect();
        Ok(arrow::compute::interleave(&[read.as_ref(), empty.array.as_ref(), error.array.as_ref()], &indices)?)
    })))
}

/// RETURNING takes values of its own kind only.
fn check_type(value: &Json, result: &T) -> Result<()> {
    let fits = match (result, value) {
        (T::Boolean, Json::Bool(_)) => true,
        (T::Boolean, _) => false,
        (ty, Json::Number(text)) if ty.is_integer() => text.bytes().all(|b| b.is_ascii_digit() || b == b'-'),
        (ty, value) if ty.is_numeric() => matches!(value, Json::Number(_)),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(EngineError::Runtime(format!("JSON_VALUE: {value} is no {result}")))
}

/// JSON_QUERY(document, path, wrapper, on empty, on error).
fn json_query(call: &Call<'_>) -> Result<Function> {
    let (wrapper, on_empty, on_error) = (option(call, 2)?, option(call, 3)?, option(call, 4)?);
    let lookups = lookups(call);
    let as_list = matches!(call.result.logical, T::Array(_));
    Ok(Function::fallible(Arc::new(move |values: &[Value], rows| {
        let mut out = Vec::with_capacity(rows);
        for found in lookups(values, rows)? {
            let Some((found, lax)) = found else {
                out.push(None);
                continue;
            };
            let wrapped = match found {
                Lookup::Value(value) => wrap(value, &wrapper).ok_or(lax),
                Lookup::Empty => Err(true),
                Lookup::Error => Err(false),
            };
            let handling = match wrapped {
                Ok(value) => {
                    out.push(Some(value));
                    continue;
                }
                Err(empty) => {
                    if empty {
                        &on_empty
                    } else {
                        &on_error
                    }
                }
            };
            out.push(match handling.as_str() {
                "ERROR" => return Err(failed("JSON_QUERY", "there is no array or object")),
                "EMPTY ARRAY" => Some(Json::Array(Vec::new())),
                "EMPTY OBJECT" => Some(Json::Object(BTreeMap::new())),
                _ => None,
            });
        }
        if !as_list {
            let array: StringArray = out.into_iter().map(|v| v.map(|v| v.to_string())).collect();
            return Ok(Arc::new(array) as ArrayRef);
        }
        let mut builder = ListBuilder::new(StringBuilder::new());
        for value in out {
            match value {
                Some(Json::Array(items)) => {
                    for item in items {
                        builder.values().append_option((item != Json::Null).then(|| item.scalar_text()));
                    }
                    builder.append(true);
                }
                _ => builder.append(false),
            }
        }
        Ok(Arc::new(builder.finish()))
    })))
}

/// The value with its wrapper; `None` for a scalar without one.
fn wrap(value: Json, wrapper: &str) -> Option<Json> {
    match wrapper {
        "UNCONDITIONAL" => Some(Json::Array(vec![value])),
        "CONDITIONAL" if !matches!(value, Json::Array(_)) => Some(Json::Array(vec![value])),
        _ => (!value.is_scalar()).then_some(value),
    }
}

/// `x IS JSON [VALUE | SCALAR | ARRAY | OBJECT]`; never NULL.
fn is_json(call: &Call<'_>) -> Result<Kernel> {
    let kind = option(call, 1)?;
    Ok(Arc::new(move |values: &[Value], rows| {
        let texts = argument(values, 0)?.view::<StringArray>()?;
        let array: BooleanArray = (0..rows)
            .map(|row| {
                let value = texts.get(row).and_then(Json::parse);
                Some(value.is_some_and(|value| match kind.as_str() {
                    "SCALAR" => value.is_scalar(),
                    "ARRAY" => matches!(value, Json::Array(_)),
                    "OBJECT" => matches!(value, Json::Object(_)),
                    _ => true,
                }))
            })
            .collect();
        Ok(Arc::new(array) as ArrayRef)
    }))
}

/// A JSON string in ASCII. A character beyond 16 bits gives its code point and then its second half,
/// as Flink writes it.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                out.push_str(&format!("\\u{:04x}", c as u32));
                if let [_, second] = c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{second:04x}"));
                }
            }
        }
    }
    out.push('"');
    out
}

/// The text of a JSON string; anything else as it is.
fn unquote(text: &str) -> String {
    match Json::parse(text) {
        Some(Json::Text(inner)) if text.starts_with('"') => inner,
        _ => text.to_owned(),
    }
}

/// One value of an array as JSON; `raw`: it is JSON text already.
fn to_json(ty: &T, array: &ArrayRef, index: usize, raw: bool) -> Result<Json> {
    if array.is_null(index) {
        return Ok(Json::Null);
    }
    let text = || Ok::<_, EngineError>(to_text(ty, Zone::UTC, array, index)?.unwrap_or_default());
    Ok(match ty {
        T::Boolean => Json::Bool(array.as_boolean().value(index)),
        T::Char(_) | T::Varchar(_) if raw => {
            let text = text()?;
            Json::parse(&text).ok_or_else(|| EngineError::Runtime(format!("'{text}' is not JSON")))?
        }
        T::Char(_) | T::Varchar(_) => Json::Text(text()?),
        T::Binary(_) | T::Varbinary(_) => Json::Text(base64(array.as_binary::<i32>().value(index))),
        T::TinyInt | T::SmallInt | T::Int | T::BigInt | T::Decimal(..) => Json::Number(text()?),
        T::Float if array.as_primitive::<Float32Type>().value(index).is_finite() => Json::Number(big_decimal(&text()?)),
        T::Double if array.as_primitive::<Float64Type>().value(index).is_finite() => {
            Json::Number(big_decimal(&text()?))
        }
        T::Float | T::Double => Json::Text(text()?),
        T::Timestamp(p) | T::TimestampLtz(p) => {
            let stored = Value { array: Arc::clone(array), constant: false }.longs()?.get(index).unwrap_or(0);
            let zone = if matches!(ty, T::TimestampLtz(_)) { "Z" } else { "" };
            Json::Text(format!("{}{zone}", iso(Moment::from_stored(stored, *p))))
        }
        T::Array(item) => {
            let list = array.as_list::<i32>();
            let range = list.value_offsets()[index] as usize..list.value_offsets()[index + 1] as usize;
            Json::Array(range.map(|i| to_json(&item.logical, list.values(), i, false)).collect::<Result<_>>()?)
        }
        T::Map(key, value) => {
            let map = array.as_map();
            let range = map.value_offsets()[index] as usize..map.value_offsets()[index + 1] as usize;
            let mut fields = BTreeMap::new();
            for i in range {
                let key = to_text(&key.logical, Zone::UTC, map.keys(), i)?.unwrap_or_default();
                fields.insert(key, to_json(&value.logical, map.values(), i, false)?);
            }
            Json::Object(fields)
        }
        T::Row(fields) => {
            let row = array.as_struct();
            let values = fields.iter().zip(row.columns());
            Json::Object(
                values
                    .map(|((name, ty), column)| Ok((name.clone(), to_json(&ty.logical, column, index, false)?)))
                    .collect::<Result<_>>()?,
            )
        }
        other => return Err(EngineError::Validation(format!("a value of type {other} has no JSON form"))),
    })
}

/// `2024-01-01T12:34:56.789`, the fraction only where there is one.
fn iso(at: Moment) -> String {
    let (year, month, day) = civil(at.millis.div_euclid(86_400_000));
    let second = at.millis.rem_euclid(86_400_000) / 1000;
    let base = format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let digits = format!("{:09}", at.nano_of_second());
    match digits.trim_end_matches('0') {
        "" => base,
        fraction => format!("{base}.{fraction}"),
    }
}

fn json_string(call: &Call<'_>) -> Result<Kernel> {
    let ty = call.ty(0)?.clone();
    Ok(Arc::new(move |values: &[Value], rows| {
        let value = argument(values, 0)?;
        let array = (0..rows)
            .map(|row| {
                if value.is_null(row) {
                    return Ok(None);
                }
                to_json(&ty, &value.array, value.index(row), false).map(|v| Some(v.to_string()))
            })
            .collect::<Result<StringArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    }))
}

/// Nested constructors and JSON(s) are put in as they are.
fn is_raw(argument: &Expr) -> bool {
    matches!(&argument.kind, ExprKind::Call { function, .. }
        if matches!(function.as_str(), "JSON" | "JSON_OBJECT" | "JSON_ARRAY"))
}

fn typed(arguments: &[Expr]) -> Vec<(DataType, bool)> {
    arguments.iter().map(|a| (a.data_type.clone(), is_raw(a))).collect()
}

/// JSON_OBJECT(NULL or ABSENT, key, value, ...).
fn json_object(call: &Call<'_>) -> Result<Kernel> {
    let absent = option(call, 0)? == "ABSENT";
    let types = typed(&call.arguments[1..]);
    Ok(Arc::new(move |values: &[Value], rows| {
        let array = (0..rows)
            .map(|row| {
                let mut fields = BTreeMap::new();
                for (pair, types) in values[1..].chunks(2).zip(types.chunks(2)) {
                    let ([key, value], [_, (ty, raw)]) = (pair, types) else { continue };
                    let Some(key) = key.view::<StringArray>()?.get(row) else {
                        return Err(EngineError::Runtime("JSON_OBJECT: a key is NULL".to_owned()));
                    };
                    let value = to_json(&ty.logical, &value.array, value.index(row), *raw)?;
                    if !(absent && value == Json::Null) {
                        fields.insert(key.to_owned(), value);
                    }
                }
                Ok(Some(Json::Object(fields).to_string()))
            })
            .collect::<Result<StringArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    }))
}

/// JSON_ARRAY(NULL or ABSENT, value, ...).
fn json_array(call: &Call<'_>) -> Result<Kernel> {
    let absent = option(call, 0)? == "ABSENT";
    let types = typed(&call.arguments[1..]);
    Ok(Arc::new(move |values: &[Value], rows| {
        let array = (0..rows)
            .map(|row| {
                let mut items = Vec::new();
                for (value, (ty, raw)) in values[1..].iter().zip(&types) {
                    let item = to_json(&ty.logical, &value.array, value.index(row), *raw)?;
                    if !(absent && item == Json::Null) {
                        items.push(item);
                    }
                }
                Ok(Some(Json::Array(items).to_string()))
            })
            .collect::<Result<StringArray>>()?;
        Ok(Arc::new(array) as ArrayRef)
    }))
}

#[cfg(test)]
mod tests {
    use super::value::write_string;
    use super::*;

    const DOCUMENT: &str = r#"{"b": [1, 2.50, "x", null], "a": {"d": "e"}, "big": 12345678901234567890, "e": 1e3}"#;

    fn at(path: &str) -> Option<String> {
        let path = Path::parse(path)?;
        match path.find(&Json::parse(DOCUMENT)?) {
            Found::Value(value) => Some(value.to_string()),
            Found::Nothing => None,
        }
    }

    #[test]
    fn paths_lead_to_values() {
        for (path, expected) in [
            ("$.a.d", Some("\"e\"")),
            ("lax $.b[1]", Some("2.50")),
            ("strict $.b[-2]", Some("\"x\"")),
            ("$.b[3]", None),
            ("$.zz", None),
            ("$..d", Some("[\"e\"]")),
            ("$.b[*]", Some("[1,2.50,\"x\",null]")),
            ("$.b[0:2]", Some("[1,2.50]")),
            ("$.b[?(@ > 1)]", Some("[2.50]")),
            ("$['a']", Some("{\"d\":\"e\"}")),
            ("$.big", Some("12345678901234567890")),
            ("$.e", Some("1E+3")),
            ("$[", None),
            ("", None),
        ] {
            assert_eq!(at(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn reading_is_strict() {
        for bad in ["", "x", "{", "[1,]", "{a:1}", "{'a':1}", "01", "NaN", "\"\t\"", "// c\n1", "[1, 2"] {
            assert!(Json::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(
            Json::parse(" [1 , {\"b\":2,\"a\":\"\\u00e9\"} ] ").unwrap().to_string(),
            "[1,{\"a\":\"é\",\"b\":2}]"
        );
        assert_eq!(big_decimal("1.0E20"), "1.0E+20");
        assert_eq!(big_decimal("1.0E-4"), "0.00010");
        let mut out = String::new();
        write_string(&mut out, "a\"b\n");
        assert_eq!(out, "\"a\\\"b\\n\"");
        assert_eq!(quote("a😀/"), "\"a\\u1f600\\ude00\\/\"");
        assert_eq!(unquote("\"a\\u0041\""), "aA");
        assert_eq!(unquote("\"abc"), "\"abc");
    }
}
