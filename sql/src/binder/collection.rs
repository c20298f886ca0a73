//! ARRAY, MAP and ROW: constructors, access, and functions whose types follow from their elements.

use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType as T};

use super::operators::{cast, unify};
use super::types::{common_type, implicit_cast_allowed};
use crate::error::SqlError;

/// The names that [`call`] knows.
pub(super) const NAMES: [&str; 25] = [
    "ROW",
    "MAP",
    "CARDINALITY",
    "ELEMENT",
    "ARRAY_APPEND",
    "ARRAY_PREPEND",
    "ARRAY_REMOVE",
    "ARRAY_CONTAINS",
    "ARRAY_POSITION",
    "ARRAY_CONCAT",
    "ARRAY_UNION",
    "ARRAY_EXCEPT",
    "ARRAY_INTERSECT",
    "ARRAY_DISTINCT",
    "ARRAY_REVERSE",
    "ARRAY_MAX",
    "ARRAY_MIN",
    "ARRAY_SORT",
    "ARRAY_SLICE",
    "ARRAY_JOIN",
    "MAP_KEYS",
    "MAP_VALUES",
    "MAP_ENTRIES",
    "MAP_FROM_ARRAYS",
    "MAP_UNION",
];

/// A constructor or function on collections; gives the arguments back when it is none.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Result<Result<Expr, Vec<Expr>>, SqlError> {
    let bound = match (name, arguments.len()) {
        ("ROW", _) => row(arguments)?,
        ("MAP", _) => map(arguments)?,
        ("CARDINALITY", 1) => sized(arguments)?,
        ("ELEMENT", 1) => {
            let item = element(&arguments, 0, name)?;
            Expr::call(name, arguments, item.with_nullable(true))
        }
        ("ARRAY_APPEND" | "ARRAY_PREPEND", 2) => extended(name, arguments)?,
        ("ARRAY_REMOVE", 2) => {
            let arguments = with_element(name, arguments)?;
            let result = arguments[0].data_type.clone();
            Expr::call(name, arguments, result)
        }
        ("ARRAY_CONTAINS" | "ARRAY_POSITION", 2) => {
            let arguments = with_element(name, arguments)?;
            let position = name == "ARRAY_POSITION";
            let nullable = arguments[0].data_type.nullable || (position && arguments[1].data_type.nullable);
            let logical = if position { T::Int } else { T::Boolean };
            Expr::call(name, arguments, DataType { logical, nullable })
        }
        ("ARRAY_CONCAT", 1..) | ("ARRAY_UNION" | "ARRAY_EXCEPT" | "ARRAY_INTERSECT", 2) => {
            (0..arguments.len()).try_for_each(|i| element(&arguments, i, name).map(|_| ()))?;
            let (arguments, common) = unify(arguments, name)?;
            let nullable = arguments.iter().any(|a| a.data_type.nullable);
            Expr::call(name, arguments, DataType { logical: common, nullable })
        }
        ("ARRAY_DISTINCT" | "ARRAY_REVERSE", 1) => {
            element(&arguments, 0, name)?;
            let result = arguments[0].data_type.clone();
            Expr::call(name, arguments, result)
        }
        ("ARRAY_MAX" | "ARRAY_MIN", 1) => {
            let item = ordered(&arguments, name)?;
            Expr::call(name, arguments, item.with_nullable(true))
        }
        ("ARRAY_SORT", 1..=3) => {
            ordered(&arguments, name)?;
            flags(name, &arguments[1..])?;
            same_as_first(name, arguments)
        }
        ("ARRAY_SLICE", 2 | 3) => {
            element(&arguments, 0, name)?;
            let mut rest = arguments;
            for bound in rest.iter_mut().skip(1) {
                if !bound.data_type.logical.is_integer() {
                    return Err(SqlError::validation(format!(
                        "{name} takes positions, not {}",
                        bound.data_type.logical
                    )));
                }
                *bound = cast(bound.clone(), &T::BigInt);
            }
            same_as_first(name, rest)
        }
        ("ARRAY_JOIN", 2 | 3) => joined(arguments)?,
        ("MAP_KEYS" | "MAP_VALUES" | "MAP_ENTRIES", 1) => parts(name, arguments)?,
        ("MAP_FROM_ARRAYS", 2) => {
            let (key, value) = (element(&arguments, 0, name)?, element(&arguments, 1, name)?);
            let nullable = arguments.iter().any(|a| a.data_type.nullable);
            let logical = T::Map(Box::new(key), Box::new(value));
            Expr::call(name, arguments, DataType { logical, nullable })
        }
        ("MAP_UNION", 1..) => {
            if let Some(other) = arguments.iter().find(|a| !matches!(a.data_type.logical, T::Map(..))) {
                return Err(SqlError::validation(format!("{name} takes maps, not {}", other.data_type.logical)));
            }
            let (arguments, common) = unify(arguments, name)?;
            let nullable = arguments.iter().any(|a| a.data_type.nullable);
            Expr::call(name, arguments, DataType { logical: common, nullable })
        }
        _ => return Ok(Err(arguments)),
    };
    Ok(Ok(bound))
}

fn same_as_first(name: &str, arguments: Vec<Expr>) -> Expr {
    let nullable = arguments.iter().any(|a| a.data_type.nullable);
    let result = arguments[0].data_type.with_nullable(nullable);
    Expr::call(name, arguments, result)
}

/// The element type of the ARRAY argument at `position`.
fn element(arguments: &[Expr], position: usize, name: &str) -> Result<DataType, SqlError> {
    match arguments.get(position).map(|a| &a.data_type.logical) {
        Some(T::Array(item)) => Ok((**item).clone()),
        Some(other) => Err(SqlError::validation(format!("{name} takes an ARRAY, not {other}"))),
        None => Err(SqlError::validation(format!("{name} lacks an argument"))),
    }
}

fn ordered(arguments: &[Expr], name: &str) -> Result<DataType, SqlError> {
    let item = element(arguments, 0, name)?;
    match item.logical {
        T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_) | T::Boolean => {
            Err(SqlError::validation(format!("{name} cannot order elements of type {}", item.logical)))
        }
        _ => Ok(item),
    }
}

fn flags(name: &str, arguments: &[Expr]) -> Result<(), SqlError> {
    match arguments.iter().find(|a| a.data_type.logical != T::Boolean) {
        Some(other) => {
            Err(SqlError::validation(format!("{name} takes BOOLEAN flags, not {}", other.data_type.logical)))
        }
        None => Ok(()),
    }
}

/// An ARRAY and a value of its element type.
fn with_element(name: &str, mut arguments: Vec<Expr>) -> Result<Vec<Expr>, SqlError> {
    let item = element(&arguments, 0, name)?;
    let value = &arguments[1].data_type.logical;
    let both_text = value.is_string() && item.logical.is_string();
    if !both_text && !implicit_cast_allowed(value, &item.logical) {
        return Err(SqlError::validation(format!("{name}: {value} is no element of ARRAY<{item}>")));
    }
    if !both_text && let Some(value) = arguments.pop() {
        arguments.push(cast(value, &item.logical));
    }
    Ok(arguments)
}

fn extended(name: &str, mut arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let item = element(&arguments, 0, name)?;
    let value = arguments[1].data_type.clone();
    let common = common_type(&[item.clone(), value.clone()])
        .filter(|_| implicit_cast_allowed(&value.logical, &item.logical) || value.logical.is_string())
        .ok_or_else(|| SqlError::validation(format!("{name}: {} is no element of ARRAY<{item}>", value.logical)))?;
    let nullable = arguments[0].data_type.nullable;
    let (value, array) = (arguments.pop(), arguments.pop());
    let list = T::Array(Box::new(common.clone()));
    let arguments = array.map(|a| cast(a, &list)).into_iter().chain(value.map(|v| cast(v, &common.logical))).collect();
    Ok(Expr::call(name, arguments, DataType { logical: list, nullable }))
}

fn joined(arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let item = element(&arguments, 0, "ARRAY_JOIN")?;
    let texts = arguments[1..].iter().map(|a| &a.data_type.logical).chain([&item.logical]);
    if let Some(other) = texts.into_iter().find(|t| !t.is_string()) {
        return Err(SqlError::validation(format!("ARRAY_JOIN joins strings, not {other}")));
    }
    let nullable = arguments.iter().any(|a| a.data_type.nullable);
    Ok(Expr::call("ARRAY_JOIN", arguments, DataType { logical: T::STRING, nullable }))
}

fn parts(name: &str, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let T::Map(key, value) = arguments[0].data_type.logical.clone() else {
        return Err(SqlError::validation(format!("{name} takes a MAP, not {}", arguments[0].data_type.logical)));
    };
    let item = match name {
        "MAP_KEYS" => *key,
        "MAP_VALUES" => *value,
        _ => T::Row(vec![("key".to_owned(), *key), ("value".to_owned(), *value)]).nullable(),
    };
    let nullable = arguments[0].data_type.nullable;
    Ok(Expr::call(name, arguments, DataType { logical: T::Array(Box::new(item)), nullable }))
}

fn sized(arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let value = &arguments[0].data_type;
    if !matches!(value.logical, T::Array(_) | T::Map(..) | T::Multiset(_)) {
        return Err(SqlError::validation(format!(
            "CARDINALITY takes an ARRAY, a MAP or a MULTISET, not {}",
            value.logical
        )));
    }
    let nullable = value.nullable;
    Ok(Expr::call("CARDINALITY", arguments, DataType { logical: T::Int, nullable }))
}

/// ARRAY\[...\].
pub(super) fn array(elements: Vec<Expr>) -> Result<Expr, SqlError> {
    if elements.is_empty() {
        return Err(SqlError::validation("ARRAY needs at least one element"));
    }
    let (elements, common) = unify(elements, "ARRAY")?;
    let nullable = elements.iter().any(|e| e.data_type.nullable);
    let item = DataType { logical: common, nullable };
    Ok(Expr::call("ARRAY", elements, T::Array(Box::new(item)).not_null()))
}

/// MAP\[key, value, ...\].
fn map(arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    if arguments.is_empty() || !arguments.len().is_multiple_of(2) {
        return Err(SqlError::validation("MAP needs pairs of keys and values"));
    }
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (position, argument) in arguments.into_iter().enumerate() {
        if position % 2 == 0 { keys.push(argument) } else { values.push(argument) }
    }
    let (keys, key) = unify(keys, "MAP")?;
    let (values, value) = unify(values, "MAP")?;
    let typed = |logical: T, exprs: &[Expr]| {
        Box::new(DataType { logical, nullable: exprs.iter().any(|e| e.data_type.nullable) })
    };
    let result = T::Map(typed(key, &keys), typed(value, &values)).not_null();
    let pairs = keys.into_iter().zip(values).flat_map(|(k, v)| [k, v]).collect();
    Ok(Expr::call("MAP", pairs, result))
}

/// ROW(...) and (a, b).
pub(super) fn row(fields: Vec<Expr>) -> Result<Expr, SqlError> {
    if fields.iter().any(|f| f.data_type.logical == T::Null) {
        return Err(super::bare_null());
    }
    let types = fields.iter().enumerate().map(|(i, f)| (format!("EXPR${i}"), f.data_type.clone())).collect();
    Ok(Expr::call("ROW", fields, T::Row(types).not_null()))
}

/// `row.name`.
pub(super) fn field(row: Expr, name: &str) -> Result<Expr, SqlError> {
    let T::Row(fields) = &row.data_type.logical else {
        return Err(SqlError::validation(format!("'{name}' is no field: {} is no ROW", row.data_type.logical)));
    };
    let exact = fields.iter().position(|(field, _)| field == name);
    let Some(position) = exact.or_else(|| fields.iter().position(|(field, _)| field.eq_ignore_ascii_case(name))) else {
        let names: Vec<&str> = fields.iter().map(|(n, _)| n.as_str()).collect();
        return Err(SqlError::validation(format!("there is no field '{name}': fields are {}", names.join(", "))));
    };
    let field = &fields[position].1;
    let data_type = field.with_nullable(field.nullable || row.data_type.nullable);
    let index = Expr::literal(Literal::Int(position as i64), T::Int.not_null());
    Ok(Expr::call("FIELD", vec![row, index], data_type))
}

/// `array[index]`, `map[key]`.
pub(super) fn item(value: Expr, index: Expr) -> Result<Expr, SqlError> {
    match value.data_type.logical.clone() {
        T::Array(element) => {
            if !index.data_type.logical.is_integer() {
                return Err(SqlError::validation(format!(
                    "an array is indexed by integers, not {}",
                    index.data_type.logical
                )));
            }
            if matches!(index.kind, ExprKind::Literal(Literal::Int(n)) if n < 1) {
                return Err(SqlError::validation("array positions start at 1"));
            }
            Ok(Expr::call("ITEM", vec![value, cast(index, &T::BigInt)], element.with_nullable(true)))
        }
        T::Map(key, element) => {
            let text = index.data_type.logical.is_string() && key.logical.is_string();
            if !text && !implicit_cast_allowed(&index.data_type.logical, &key.logical) {
                return Err(SqlError::validation(format!(
                    "a map of {} keys has no key of type {}",
                    key.logical, index.data_type.logical
                )));
            }
            let key = if text { index } else { cast(index, &key.logical) };
            Ok(Expr::call("ITEM", vec![value, key], element.with_nullable(true)))
        }
        other => Err(SqlError::validation(format!("{other} has no elements"))),
    }
}
