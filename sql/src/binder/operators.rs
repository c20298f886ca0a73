//! Operators: arithmetic, comparison, logic, with the casts that their types need.

use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType as T};

use super::types::{as_decimal, common_type, decimal_result, length};
use crate::error::SqlError;

/// `expr` as `logical`, keeping its nullability.
pub(super) fn cast(expr: Expr, logical: &T) -> Expr {
    let nullable = expr.data_type.nullable;
    if expr.data_type.logical == T::Null {
        return Expr::literal(Literal::Null, DataType { logical: logical.clone(), nullable: true });
    }
    expr.cast_to(DataType { logical: logical.clone(), nullable })
}

/// All expressions as their common type.
pub(super) fn unify(exprs: Vec<Expr>, what: &str) -> Result<(Vec<Expr>, T), SqlError> {
    let types: Vec<DataType> = exprs.iter().map(|e| e.data_type.clone()).collect();
    let common = common_type(&types).filter(|c| c.logical != T::Null).ok_or_else(|| {
        let names: Vec<String> = types.iter().map(|t| t.logical.to_string()).collect();
        SqlError::validation(format!("{what} needs values of one type, not {}", names.join(" and ")))
    })?;
    Ok((exprs.into_iter().map(|e| cast(e, &common.logical)).collect(), common.logical))
}

fn any_nullable(exprs: &[Expr]) -> bool {
    exprs.iter().any(|e| e.data_type.nullable)
}

pub(super) fn boolean_call(name: &str, arguments: Vec<Expr>) -> Expr {
    let nullable = any_nullable(&arguments);
    Expr::call(name, arguments, DataType { logical: T::Boolean, nullable })
}

/// AND, OR, NOT.
pub(super) fn logic(name: &str, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    if arguments.iter().any(|a| a.data_type.logical == T::Null) {
        return Err(super::bare_null());
    }
    let mut conditions = Vec::with_capacity(arguments.len());
    for argument in arguments {
        conditions.push(condition(argument, name)?);
    }
    Ok(boolean_call(name, conditions))
}

/// A BOOLEAN.
pub(super) fn condition(expr: Expr, what: &str) -> Result<Expr, SqlError> {
    match expr.data_type.logical {
        T::Boolean => Ok(expr),
        T::Null => Ok(cast(expr, &T::Boolean)),
        ref other => Err(SqlError::validation(format!("{what} needs a BOOLEAN, not {other}"))),
    }
}

fn mismatch(name: &str, a: &T, b: &T) -> SqlError {
    SqlError::validation(format!("{name} cannot be applied to {a} and {b}: CAST one of them to the other's type"))
}

/// `= <> < <= > >=`, IS [NOT] DISTINCT FROM.
pub(super) fn comparison(name: &str, left: Expr, right: Expr) -> Result<Expr, SqlError> {
    let (left, right) = comparable(name, left, right)?;
    if name.contains("DISTINCT") {
        return Ok(Expr::call(name, vec![left, right], T::Boolean.not_null()));
    }
    Ok(boolean_call(name, vec![left, right]))
}

/// Both sides in the type in which they are compared.
fn comparable(name: &str, left: Expr, right: Expr) -> Result<(Expr, Expr), SqlError> {
    let (a, b) = (left.data_type.logical.clone(), right.data_type.logical.clone());
    let equality = !name.starts_with(['<', '>']) || name == "<>";
    let to =
        match (&a, &b) {
            (T::Null, T::Null) if name.contains("DISTINCT") => T::Int,
            (T::Null, T::Null) => return Err(super::bare_null()),
            (T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_), _) if !equality => {
                return Err(mismatch(name, &a, &b));
            }
            // Of two floating-point numbers the left one decides how they are tested for equality.
            (x, y) if x.is_approximate_numeric() && y.is_approximate_numeric() => {
                if name == "=" || name == "<>" || x == y { x.clone() } else { T::Double }
            }
            (x, y) if x.is_string() && y.is_temporal() => y.clone(),
            (x, y) if x.is_temporal() && y.is_string() => x.clone(),
            // A BOOLEAN is compared with text as the text that it prints as.
            (T::Boolean, y) if y.is_string() => T::STRING,
            (x, T::Boolean) if x.is_string() => T::STRING,
            (x, y) if x.is_string() && y.is_numeric() && !equality => y.clone(),
            (x, y) if x.is_numeric() && y.is_string() && !equality => x.clone(),
            (x, y) if x.is_string() && y.is_string() => return Ok((left, right)),
            (x, y) if x.is_binary() && y.is_binary() => return Ok((left, right)),
            _ => match common_type(&[left.data_type.clone(), right.data_type.clone()]) {
                Some(common) => common.logical,
                None => return Err(mismatch(name, &a, &b)),
            },
        };
    Ok((cast(left, &to), cast(right, &to)))
}

/// `value IN (items)`; a string among numbers is cast to the number.
pub(super) fn in_list(value: Expr, items: Vec<Expr>) -> Result<Expr, SqlError> {
    let concrete =
        |exprs: &[Expr], test: fn(&T) -> bool| exprs.iter().map(|e| &e.data_type.logical).find(|t| test(t)).cloned();
    let mut all = vec![value];
    all.extend(items);
    let to = match (concrete(&all, T::is_string), concrete(&all, |t| !t.is_string() && *t != T::Null)) {
        (Some(_), Some(other)) if other.is_numeric() || other.is_temporal() || other == T::Boolean => other,
        (Some(text), Some(other)) => return Err(mismatch("IN", &text, &other)),
        _ => unify(all.clone(), "IN")?.1,
    };
    let all: Vec<Expr> = all.into_iter().map(|e| cast(e, &to)).collect();
    Ok(boolean_call("IN", all))
}

/// `+ - * / %` and MOD.
pub(super) fn arithmetic(name: &str, left: Expr, right: Expr) -> Result<Expr, SqlError> {
    let (a, b) = (left.data_type.logical.clone(), right.data_type.logical.clone());
    if a == T::Null || b == T::Null {
        return Err(super::bare_null());
    }
    if a.is_numeric() && b.is_numeric() {
        return numeric(name, left, right);
    }
    let nullable = left.data_type.nullable || right.data_type.nullable;
    let typed = |logical: T| DataType { logical, nullable };
    let result = match (name, &a, &b) {
        ("+" | "-", x, y) if x.is_interval() && x == y => x.clone(),
        ("+" | "-", x, y) if x.is_temporal() && y.is_interval() => shifted(x, y),
        ("+", x, y) if x.is_interval() && y.is_temporal() && !matches!(y, T::TimestampLtz(_)) => shifted(y, x),
        ("*", x, y) if x.is_interval() && y.is_integer() => x.clone(),
        ("*", x, y) if x.is_integer() && y.is_interval() => y.clone(),
        _ => return Err(mismatch(name, &a, &b)),
    };
    Ok(Expr::call(name, vec![left, right], typed(result)))
}

/// The type of a date, time or timestamp moved by an interval: its own.
pub(super) fn shifted(ty: &T, _interval: &T) -> T {
    ty.clone()
}

fn numeric(name: &str, left: Expr, right: Expr) -> Result<Expr, SqlError> {
    let (a, b) = (left.data_type.logical.clone(), right.data_type.logical.clone());
    let nullable = left.data_type.nullable || right.data_type.nullable;
    let typed = |logical: T| DataType { logical, nullable };
    let remainder = matches!(name, "%" | "MOD");
    if a.is_approximate_numeric() || b.is_approximate_numeric() {
        if remainder {
            return Err(SqlError::validation(format!("% takes integers and DECIMAL, not {a} and {b}")));
        }
        let to = match (&a, &b) {
            (T::Decimal(..), _) | (_, T::Decimal(..)) => T::Double,
            // Of FLOAT and DOUBLE the left one decides.
            (x, y) if x.is_approximate_numeric() && y.is_approximate_numeric() => x.clone(),
            (x, _) if x.is_approximate_numeric() => x.clone(),
            (_, y) => y.clone(),
        };
        return Ok(Expr::call(name, vec![cast(left, &to), cast(right, &to)], typed(to)));
    }
    if let (T::Decimal(..), _) | (_, T::Decimal(..)) = (&a, &b) {
        let (x, y) = (as_decimal(&a).unwrap_or((38, 0)), as_decimal(&b).unwrap_or((38, 0)));
        let result = decimal_result(if remainder { "%" } else { name }, x, y);
        let arguments = vec![cast(left, &T::Decimal(x.0, x.1)), cast(right, &T::Decimal(y.0, y.1))];
        return Ok(Expr::call(if remainder { "%" } else { name }, arguments, typed(result)));
    }
    let wide = common_type(&[left.data_type.clone(), right.data_type.clone()]).map_or(T::BigInt, |t| t.logical);
    let op = if remainder { "%" } else { name };
    let result = Expr::call(op, vec![cast(left, &wide), cast(right, &wide)], typed(wide.clone()));
    // A remainder is never larger than its divisor and takes its type.
    Ok(if remainder { cast(result, &b) } else { result })
}

/// `- x`; a `+` changes nothing.
pub(super) fn negate(expr: Expr) -> Result<Expr, SqlError> {
    let ty = &expr.data_type.logical;
    if !ty.is_numeric() && !ty.is_interval() {
        return Err(SqlError::validation(format!("- needs a number or an interval, not {ty}")));
    }
    let data_type = expr.data_type.clone();
    Ok(Expr::call("-", vec![expr], data_type))
}

/// `a || b`.
pub(super) fn concat(left: Expr, right: Expr) -> Result<Expr, SqlError> {
    let (a, b) = (left.data_type.logical.clone(), right.data_type.logical.clone());
    let sum = u64::from(length(&a)) + u64::from(length(&b));
    let total = sum.min(u64::from(length(&T::STRING))) as u32;
    let result = match (&a, &b) {
        (T::Char(_), T::Char(_)) => T::Char(total),
        (x, y) if x.is_string() && y.is_string() => T::Varchar(total),
        (T::Binary(_), T::Binary(_)) => T::Binary(total),
        (x, y) if x.is_binary() && y.is_binary() => T::Varbinary(total),
        _ => return Err(mismatch("||", &a, &b)),
    };
    let nullable = left.data_type.nullable || right.data_type.nullable;
    Ok(Expr::call("||", vec![left, right], DataType { logical: result, nullable }))
}

/// CASE with conditions; the results take their common type.
pub(super) fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Result<Expr, SqlError> {
    let missing = otherwise.is_none();
    let (conditions, mut results): (Vec<Expr>, Vec<Expr>) = branches.into_iter().unzip();
    results.extend(otherwise);
    let (mut results, common) = unify(results, "CASE")?;
    let nullable = missing || any_nullable(&results);
    let otherwise = if missing { None } else { results.pop().map(Box::new) };
    let branches = conditions.into_iter().zip(results).collect();
    Ok(Expr { kind: ExprKind::Case { branches, otherwise }, data_type: DataType { logical: common, nullable } })
}

/// COALESCE: nullable only if all are.
pub(super) fn coalesce(arguments: Vec<Expr>) -> Result<Expr, SqlError> {
    let (arguments, common) = unify(arguments, "COALESCE")?;
    let nullable = arguments.iter().all(|a| a.data_type.nullable);
    Ok(Expr::call("COALESCE", arguments, DataType { logical: common, nullable }))
}
