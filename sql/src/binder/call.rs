//! Calls: functions with rules of their own, then the registry; constructors and access.

use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType as T};
use sqlparser::ast::{Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned};

use super::expr::Binder;
use super::operators::{arithmetic, case, cast, coalesce, comparison, condition, unify};
use super::types::{implicit_cast_allowed, length};
use super::{collection, json, literal};
use crate::error::SqlError;
use crate::functions;
use crate::parser::{MINUS, OVERLAPS};
use crate::session::FunctionSignature;

/// A scalar function call.
pub(super) fn function(binder: &mut Binder<'_, '_>, function: &Function) -> Result<Expr, SqlError> {
    let name = function.name.to_string().trim_matches('`').to_uppercase();
    if function.over.is_some() {
        return Err(SqlError::unsupported(format!("{name} OVER here is"), function.name.span()));
    }
    if function.filter.is_some() || !function.within_group.is_empty() || function.null_treatment.is_some() {
        return Err(SqlError::validation(format!(
            "{name} is no aggregate: it takes no FILTER, WITHIN GROUP or NULLS clause"
        )));
    }
    let asts = plain_arguments(&name, &function.args)?;
    if let ("TIMESTAMPADD" | "TIMESTAMPDIFF", [unit, a, b]) = (name.as_str(), asts.as_slice()) {
        let unit = unit_argument(unit)?;
        let (a, b) = (binder.bind(a)?, binder.bind(b)?);
        return if name == "TIMESTAMPADD" { timestamp_add(&unit, a, b) } else { timestamp_diff(&unit, a, b) };
    }
    if let Some(bound) = json::call(binder, &name, &asts)? {
        return Ok(bound);
    }
    if let (MINUS, [a, b, unit]) = (name.as_str(), asts.as_slice()) {
        let (a, b, unit) = (binder.bind(a)?, binder.bind(b)?, binder.bind(unit)?);
        return difference(a, b, unit);
    }
    if let (OVERLAPS, [Ast::Tuple(a), Ast::Tuple(b)]) = (name.as_str(), asts.as_slice()) {
        let bounds = a.iter().chain(b).map(|e| binder.bind(e)).collect::<Result<Vec<_>, _>>()?;
        return overlaps(bounds);
    }
    let known = functions::exists(&name)
        || SPECIAL.contains(&name.as_str())
        || collection::NAMES.contains(&name.as_str())
        || binder.scope.session.functions().get(&name).is_some();
    if !known {
        return Err(SqlError::validation(format!("there is no function {name}: check its spelling, or register it")));
    }
    let arguments = asts.iter().map(|a| binder.bind(a)).collect::<Result<Vec<_>, _>>()?;
    let arguments = match collection::call(&name, arguments)? {
        Ok(bound) => return Ok(bound),
        Err(arguments) => arguments,
    };
    match special(&name, arguments)? {
        Special::Done(expr) => Ok(*expr),
        Special::Other(arguments) => match functions::call(&name, arguments.clone()) {
            Some(bound) => bound,
            None => match binder.scope.session.functions().get(&name) {
                Some(signature) => user_function(&name, signature, arguments),
                None => Err(SqlError::validation(format!("{name} does not take {} arguments", asts.len()))),
            },
        },
    }
}

/// A function that the program around Hurtig has registered.
fn user_function(name: &str, signature: &FunctionSignature, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let fits = arguments.len() == signature.arguments.len()
        && arguments.iter().zip(&signature.arguments).all(|(a, wanted)| {
            a.data_type.logical == wanted.logical || implicit_cast_allowed(&a.data_type.logical, &wanted.logical)
        });
    if !fits {
        let list = |types: &mut dyn Iterator<Item = &DataType>| {
            types.map(|t| t.logical.to_string()).collect::<Vec<_>>().join(", ")
        };
        return Err(SqlError::validation(format!(
            "{name} takes ({}), not ({})",
            list(&mut signature.arguments.iter()),
            list(&mut arguments.iter().map(|a| &a.data_type))
        )));
    }
    let cast = |(argument, wanted): (Expr, &DataType)| {
        let nullable = argument.data_type.nullable;
        argument.cast_to(wanted.with_nullable(nullable))
    };
    let arguments = arguments.into_iter().zip(&signature.arguments).map(cast).collect();
    Ok(Expr::call(name, arguments, signature.result.clone()))
}

/// The arguments, none of them named, `*` or DISTINCT.
pub(super) fn plain_arguments(name: &str, arguments: &FunctionArguments) -> Result<Vec<Ast>, SqlError> {
    let list = match arguments {
        FunctionArguments::None => return Ok(Vec::new()),
        FunctionArguments::List(list) => list,
        FunctionArguments::Subquery(query) => {
            return Err(SqlError::unsupported(format!("subqueries as arguments of {name} are"), query.span()));
        }
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(SqlError::validation(format!("{name} is no aggregate: it takes neither DISTINCT nor clauses")));
    }
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
            other => Err(SqlError::validation(format!("{name} cannot take the argument '{other}'"))),
        })
        .collect()
}

/// A unit given as a bare word, as the first argument of TIMESTAMPADD.
fn unit_argument(expr: &Ast) -> Result<String, SqlError> {
    match expr {
        Ast::Identifier(ident) if ident.quote_style.is_none() => {
            let unit = ident.value.to_uppercase();
            let unit = unit.strip_prefix("SQL_TSI_").unwrap_or(&unit);
            Ok(if unit == "FRAC_SECOND" { "MICROSECOND" } else { unit }.to_owned())
        }
        other => Err(SqlError::validation_at(format!("'{other}' is no time unit"), other.span())),
    }
}

/// The names that [`special`] knows.
const SPECIAL: [&str; 25] = [
    "IF",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "GREATEST",
    "LEAST",
    "MOD",
    "LTRIM",
    "RTRIM",
    "BTRIM",
    "ELT",
    "TYPEOF",
    "CURRENT_WATERMARK",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "HOUR",
    "MINUTE",
    "SECOND",
    "DAYOFYEAR",
    "DAYOFMONTH",
    "DAYOFWEEK",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
];

enum Special {
    Done(Box<Expr>),
    /// Left to the registry.
    Other(Vec<Expr>),
}

/// Functions whose types the registry's tables cannot express.
fn special(name: &str, mut arguments: Vec<Expr>) -> Result<Special, SqlError> {
    let count = arguments.len();
    let unit = match name {
        "YEAR" | "QUARTER" | "MONTH" | "WEEK" | "HOUR" | "MINUTE" | "SECOND" => Some(name),
        "DAYOFYEAR" => Some("DOY"),
        "DAYOFMONTH" => Some("DAY"),
        "DAYOFWEEK" => Some("DOW"),
        _ => None,
    };
    let expr = match (name, count) {
        ("IF", 3) => {
            let otherwise = arguments.pop();
            let (Some(result), Some(test)) = (arguments.pop(), arguments.pop()) else {
                return Ok(Special::Other(arguments));
            };
            case(vec![(condition(test, "IF")?, result)], otherwise)?
        }
        ("COALESCE", 1..) | ("IFNULL", 2) => coalesce(arguments)?,
        ("NULLIF", 2) => {
            let (Some(other), Some(value)) = (arguments.pop(), arguments.pop()) else {
                return Ok(Special::Other(arguments));
            };
            let null = Expr::literal(Literal::Null, value.data_type.with_nullable(true));
            let equal = comparison("=", value.clone(), other)?;
            let data_type = value.data_type.with_nullable(true);
            Expr { kind: ExprKind::Case { branches: vec![(equal, null)], otherwise: Some(Box::new(value)) }, data_type }
        }
        ("GREATEST" | "LEAST", 1..) => extreme(name, arguments)?,
        ("MOD", 2) => {
            let (Some(b), Some(a)) = (arguments.pop(), arguments.pop()) else {
                return Ok(Special::Other(arguments));
            };
            arithmetic("MOD", a, b)?
        }
        ("LTRIM" | "RTRIM" | "BTRIM", 1 | 2) => {
            let set = if count == 2 { arguments.pop() } else { None };
            let Some(text) = arguments.pop() else { return Ok(Special::Other(arguments)) };
            match name {
                "LTRIM" => trim("LEADING", text, set, true)?,
                "RTRIM" => trim("TRAILING", text, set, true)?,
                _ => trim("BOTH", text, set, false)?,
            }
        }
        ("ELT", 2..) => elt(arguments)?,
        ("TYPEOF", 1 | 2) => {
            let Some(first) = arguments.first() else { return Ok(Special::Other(arguments)) };
            let full = matches!(arguments.get(1).map(|a| &a.kind), Some(ExprKind::Literal(Literal::Boolean(true))));
            Expr::literal(Literal::String(type_text(&first.data_type, full)), T::STRING.nullable())
        }
        ("CURRENT_WATERMARK", 1) => match &arguments[0].data_type.logical {
            ty if ty.is_timestamp() => Expr::call(name, Vec::new(), ty.clone().nullable()),
            other => {
                return Err(SqlError::validation(format!("CURRENT_WATERMARK takes a rowtime column, not {other}")));
            }
        },
        _ => match (unit, arguments.pop()) {
            (Some(unit), Some(value)) if count == 1 => extract(unit, value)?,
            (_, last) => {
                arguments.extend(last);
                return Ok(Special::Other(arguments));
            }
        },
    };
    Ok(Special::Done(Box::new(expr)))
}

fn type_text(ty: &DataType, full: bool) -> String {
    let text = ty.to_string();
    if full { text.replace("STRING", "VARCHAR(2147483647)").replace("BYTES", "VARBINARY(2147483647)") } else { text }
}

fn extreme(name: &str, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    if arguments.iter().any(|a| a.data_type.logical == T::Null) {
        return Err(super::bare_null());
    }
    let (mut arguments, common) = unify(arguments, name)?;
    if matches!(common, T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_)) {
        return Err(SqlError::validation(format!("{name} cannot order values of type {common}")));
    }
    if arguments.len() == 1
        && let Some(only) = arguments.pop()
    {
        return Ok(only);
    }
    let nullable = arguments.iter().any(|a| a.data_type.nullable);
    Ok(Expr::call(name, arguments, DataType { logical: common, nullable }))
}

fn elt(mut arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let choices = arguments.split_off(1);
    let index = match arguments.pop() {
        Some(index) if index.data_type.logical.is_integer() => cast(index, &T::BigInt),
        _ => return Err(SqlError::validation("the first argument of ELT must be an integer")),
    };
    if let ExprKind::Cast { input, .. } = &index.kind
        && matches!(input.kind, ExprKind::Literal(Literal::Int(n)) if n < 0)
    {
        return Err(SqlError::validation("the index of ELT must not be negative"));
    }
    let (mut choices, common) = unify(choices, "ELT")?;
    if !common.is_string() && !common.is_binary() {
        return Err(SqlError::validation(format!("ELT chooses among strings, not {common}")));
    }
    choices.insert(0, index);
    Ok(Expr::call("ELT", choices, common.nullable()))
}

/// TRIM; without `set` spaces go. The result is as long as the text at most.
pub(super) fn trim(side: &str, text: Expr, set: Option<Expr>, keeps_length: bool) -> Result<Expr, SqlError> {
    let set = set.unwrap_or_else(|| literal::string(" "));
    for argument in [&text, &set] {
        if !argument.data_type.logical.is_string() {
            return Err(SqlError::validation(format!("TRIM takes strings, not {}", argument.data_type.logical)));
        }
    }
    let nullable = text.data_type.nullable || set.data_type.nullable;
    let logical = if keeps_length { T::Varchar(length(&text.data_type.logical)) } else { T::STRING };
    Ok(Expr::call("TRIM", vec![literal::string(side), set, text], DataType { logical, nullable }))
}

const TIME_UNITS: [&str; 6] = ["HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND", "NANOSECOND"];
const DATE_UNITS: [&str; 11] =
    ["MILLENNIUM", "CENTURY", "DECADE", "YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOY", "DOW", "EPOCH"];

fn check_unit(name: &str, unit: &str, ty: &T) -> Result<(), SqlError> {
    let time = TIME_UNITS.contains(&unit);
    let date = DATE_UNITS.contains(&unit) || unit == "ISODOW" || unit == "ISOYEAR";
    let fits = match ty {
        T::Date | T::Timestamp(_) | T::TimestampLtz(_) => time || date,
        T::Time(_) => time || unit == "EPOCH",
        T::IntervalDayTime => time || matches!(unit, "DAY" | "EPOCH"),
        T::IntervalYearMonth => matches!(unit, "YEAR" | "QUARTER" | "MONTH" | "DECADE" | "CENTURY" | "MILLENNIUM"),
        _ => {
            return Err(SqlError::validation(format!(
                "{name} takes a date, a time, a timestamp or an interval, not {ty}"
            )));
        }
    };
    if fits { Ok(()) } else { Err(SqlError::validation(format!("{name}: {unit} is no unit of {ty}"))) }
}

/// EXTRACT(unit FROM value).
pub(super) fn extract(unit: &str, value: Expr) -> Result<Expr, SqlError> {
    check_unit("EXTRACT", unit, &value.data_type.logical)?;
    let nullable = value.data_type.nullable;
    Ok(Expr::call("EXTRACT", vec![literal::string(unit), value], DataType { logical: T::BigInt, nullable }))
}

/// FLOOR(value TO unit), CEIL(value TO unit).
pub(super) fn round_to_unit(name: &str, value: Expr, unit: &str) -> Result<Expr, SqlError> {
    let ty = &value.data_type.logical;
    if !ty.is_temporal() {
        return Err(SqlError::validation(format!("{name} TO {unit} takes a date, a time or a timestamp, not {ty}")));
    }
    check_unit(name, unit, ty)?;
    let data_type = value.data_type.clone();
    Ok(Expr::call(name, vec![value, literal::string(unit)], data_type))
}

fn timestamp_add(unit: &str, count: Expr, value: Expr) -> Result<Expr, SqlError> {
    let ty = value.data_type.logical.clone();
    if !count.data_type.logical.is_integer() || !ty.is_temporal() {
        return Err(SqlError::validation(format!(
            "TIMESTAMPADD takes an integer and a date, time or timestamp, not {} and {ty}",
            count.data_type.logical
        )));
    }
    let result = match (&ty, unit) {
        (_, "MICROSECOND" | "NANOSECOND") => {
            return Err(SqlError::validation(format!("TIMESTAMPADD cannot add {unit}")));
        }
        (T::Date, "HOUR" | "MINUTE" | "SECOND" | "MILLISECOND") => T::Timestamp(6),
        (T::Timestamp(p), "MILLISECOND") => T::Timestamp(*p.max(&3)),
        (T::TimestampLtz(p), "MILLISECOND") => T::TimestampLtz(*p.max(&3)),
        (
            other,
            "HOUR" | "MINUTE" | "SECOND" | "MILLISECOND" | "DAY" | "WEEK" | "MONTH" | "QUARTER" | "YEAR" | "DECADE"
            | "CENTURY" | "MILLENNIUM",
        ) => other.clone(),
        (_, other) => return Err(SqlError::validation(format!("TIMESTAMPADD knows no unit {other}"))),
    };
    let nullable = count.data_type.nullable || value.data_type.nullable;
    let arguments = vec![literal::string(unit), count, value];
    Ok(Expr::call("TIMESTAMPADD", arguments, DataType { logical: result, nullable }))
}

fn timestamp_diff(unit: &str, from: Expr, to: Expr) -> Result<Expr, SqlError> {
    let (a, b) = (&from.data_type.logical, &to.data_type.logical);
    let instant = |t: &T| matches!(t, T::TimestampLtz(_));
    if !a.is_temporal() || !b.is_temporal() || instant(a) != instant(b) {
        return Err(SqlError::validation(format!("TIMESTAMPDIFF cannot compare {a} and {b}: CAST one of them")));
    }
    if !TIME_UNITS.contains(&unit) && !DATE_UNITS[..8].contains(&unit) {
        return Err(SqlError::validation(format!("TIMESTAMPDIFF knows no unit {unit}")));
    }
    let logical = if unit == "NANOSECOND" { T::BigInt } else { T::Int };
    let nullable = from.data_type.nullable || to.data_type.nullable;
    Ok(Expr::call("TIMESTAMPDIFF", vec![literal::string(unit), from, to], DataType { logical, nullable }))
}

/// `(a - b) unit`: the interval between two dates, times or timestamps.
fn difference(a: Expr, b: Expr, unit: Expr) -> Result<Expr, SqlError> {
    let months = matches!(super::expr::literal_text(&unit), Some("YEAR" | "MONTH"));
    let (x, y) = (&a.data_type.logical, &b.data_type.logical);
    let instant = |t: &T| matches!(t, T::TimestampLtz(_));
    let time = |t: &T| matches!(t, T::Time(_));
    if !x.is_temporal() || !y.is_temporal() || instant(x) != instant(y) || time(x) != time(y) {
        return Err(SqlError::validation(format!("{x} and {y} have no interval between them: CAST one of them")));
    }
    let nullable = a.data_type.nullable || b.data_type.nullable;
    let logical = if months { T::IntervalYearMonth } else { T::IntervalDayTime };
    Ok(Expr::call("INTERVAL_BETWEEN", vec![a, b], DataType { logical, nullable }))
}

/// `(a, b) OVERLAPS (c, d)`, where b and d are ends or lengths.
fn overlaps(bounds: Vec<Expr>) -> Result<Expr, SqlError> {
    if bounds.len() != 4 {
        return Err(SqlError::validation("OVERLAPS compares two periods, each of a start and an end or length"));
    }
    let mut ends = Vec::with_capacity(4);
    for bound in bounds {
        let bound = match ends.last() {
            Some(start) if ends.len() % 2 == 1 && bound.data_type.logical.is_interval() => {
                arithmetic("+", Expr::clone(start), bound)?
            }
            _ => bound,
        };
        if !bound.data_type.logical.is_temporal() {
            return Err(SqlError::validation(format!("OVERLAPS cannot compare {}", bound.data_type.logical)));
        }
        ends.push(bound);
    }
    let (ends, _) = unify(ends, "OVERLAPS")?;
    let nullable = ends.iter().any(|e| e.data_type.nullable);
    Ok(Expr::call("OVERLAPS", ends, DataType { logical: T::Boolean, nullable }))
}
