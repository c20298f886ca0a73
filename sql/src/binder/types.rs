//! Types that belong together: common types, arithmetic results, which casts exist.

use hurtig_graph::types::MAX_LENGTH;
use hurtig_graph::{DataType, LogicalType as T};

/// The one type that values of all `types` can have, as for CASE, COALESCE, UNION and ARRAY.
/// Nullable if any of them is. `None` when there is none.
pub fn common_type(types: &[DataType]) -> Option<DataType> {
    let mut common: Option<T> = None;
    for ty in types {
        common = Some(match common {
            None => ty.logical.clone(),
            Some(before) => common_logical(&before, &ty.logical)?,
        });
    }
    common.map(|logical| DataType { nullable: types.iter().any(|t| t.nullable), logical })
}

fn common_logical(a: &T, b: &T) -> Option<T> {
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (T::Null, other) | (other, T::Null) => other.clone(),
        (a, b) if a.is_string() && b.is_string() => T::Varchar(length(a).max(length(b))),
        (a, b) if a.is_binary() && b.is_binary() => T::Varbinary(length(a).max(length(b))),
        (a, b) if a.is_integer() && b.is_integer() => {
            if integer_digits(a) >= integer_digits(b) { a } else { b }.clone()
        }
        (a, b) if a.is_exact_numeric() && b.is_exact_numeric() => {
            let ((p1, s1), (p2, s2)) = (as_decimal(a)?, as_decimal(b)?);
            let scale = s1.max(s2);
            capped((p1 - s1).max(p2 - s2) + scale, scale)
        }
        (a, b) if a.is_numeric() && b.is_numeric() => {
            let wide = [a, b].into_iter().any(|t| matches!(t, T::Double | T::Decimal(..)));
            if wide { T::Double } else { T::Float }
        }
        (T::Time(p), T::Time(q)) => T::Time(*p.max(q)),
        (T::Timestamp(p), T::Timestamp(q)) => T::Timestamp(*p.max(q)),
        (T::Timestamp(p) | T::TimestampLtz(p), T::Timestamp(q) | T::TimestampLtz(q)) => T::TimestampLtz(*p.max(q)),
        (T::Array(x), T::Array(y)) => T::Array(Box::new(common_element(x, y)?)),
        (T::Multiset(x), T::Multiset(y)) => T::Multiset(Box::new(common_element(x, y)?)),
        (T::Map(k1, v1), T::Map(k2, v2)) => {
            T::Map(Box::new(common_element(k1, k2)?), Box::new(common_element(v1, v2)?))
        }
        (T::Row(x), T::Row(y)) if x.len() == y.len() => T::Row(
            x.iter()
                .zip(y)
                .map(|((name, s), (_, t))| Some((name.clone(), common_element(s, t)?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

fn common_element(a: &DataType, b: &DataType) -> Option<DataType> {
    Some(DataType { logical: common_logical(&a.logical, &b.logical)?, nullable: a.nullable || b.nullable })
}

/// The length of a string or binary type.
pub(crate) fn length(ty: &T) -> u32 {
    match ty {
        T::Char(n) | T::Varchar(n) | T::Binary(n) | T::Varbinary(n) => *n,
        _ => MAX_LENGTH,
    }
}

/// Digits of an integer type as a DECIMAL.
fn integer_digits(ty: &T) -> u8 {
    match ty {
        T::TinyInt => 3,
        T::SmallInt => 5,
        T::Int => 10,
        _ => 19,
    }
}

/// Precision and scale that an exact number has in decimal arithmetic.
pub(crate) fn as_decimal(ty: &T) -> Option<(u8, u8)> {
    match ty {
        T::Decimal(p, s) => Some((*p, *s)),
        integer if integer.is_integer() => Some((integer_digits(integer), 0)),
        _ => None,
    }
}

/// A DECIMAL of at most 38 digits: the scale gives way, but not below 6.
fn capped(precision: u8, scale: u8) -> T {
    if precision <= 38 {
        return T::Decimal(precision, scale);
    }
    let digits = precision - scale;
    T::Decimal(38, 38_u8.saturating_sub(digits).max(scale.min(6)))
}

/// The result of decimal arithmetic; `op` is one of `+ - * / %`.
pub(crate) fn decimal_result(op: &str, (p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> T {
    match op {
        "*" => capped(p1 + p2 + 1, s1 + s2),
        "/" => {
            let scale = 6.max(s1 + p2 + 1);
            capped(p1 - s1 + s2 + scale, scale)
        }
        "%" => {
            let scale = s1.max(s2);
            capped((p1 - s1).min(p2 - s2) + scale, scale)
        }
        _ => {
            let scale = s1.max(s2);
            capped((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
    }
}

/// Whether a value may be written to a column of type `to`, or be taken for it, without CAST.
pub fn implicit_cast_allowed(from: &T, to: &T) -> bool {
    match (from, to) {
        (from, to) if from == to => true,
        (T::Null, _) => true,
        (T::Char(_), to) if to.is_string() => true,
        (T::Varchar(_), T::Varchar(_)) => true,
        (from, T::Varbinary(_)) if from.is_binary() => true,
        (T::Binary(_), T::Binary(_)) => true,
        (from, T::Decimal(..)) if from.is_numeric() => true,
        (from, to) if from.is_integer() && to.is_integer() => integer_digits(from) <= integer_digits(to),
        (from, to) if from.is_exact_numeric() && to.is_approximate_numeric() => true,
        (T::Float, T::Double) => true,
        (T::Time(_), T::Time(_)) => true,
        (T::Timestamp(_), to) => to.is_temporal(),
        (T::TimestampLtz(_), T::TimestampLtz(_) | T::Timestamp(_)) => true,
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => implicit_cast_allowed(&a.logical, &b.logical),
        (T::Map(k1, v1), T::Map(k2, v2)) => {
            implicit_cast_allowed(&k1.logical, &k2.logical) && implicit_cast_allowed(&v1.logical, &v2.logical)
        }
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((_, x), (_, y))| implicit_cast_allowed(&x.logical, &y.logical))
        }
        _ => false,
    }
}

/// Whether CAST from `from` to `to` is allowed in SQL.
pub(crate) fn explicit_cast_allowed(from: &T, to: &T) -> bool {
    if from == to || *from == T::Null {
        return true;
    }
    match (from, to) {
        (from, to) if to.is_string() => from.is_string() || !matches!(from, T::Null),
        (from, to) if from.is_string() => to.is_numeric() || *to == T::Boolean || to.is_binary() || to.is_temporal(),
        (from, to) if from.is_binary() => to.is_binary(),
        (T::Boolean, to) => to.is_numeric(),
        (from, T::Boolean) => from.is_numeric(),
        (from, to) if from.is_numeric() => to.is_numeric(),
        (T::Date, to) => to.is_timestamp(),
        (T::Time(_), to) => to.is_timestamp() || matches!(to, T::Time(_)),
        (from, to) if from.is_timestamp() => to.is_temporal(),
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => explicit_cast_allowed(&a.logical, &b.logical),
        (T::Map(k1, v1), T::Map(k2, v2)) => {
            explicit_cast_allowed(&k1.logical, &k2.logical) && explicit_cast_allowed(&v1.logical, &v2.logical)
        }
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((_, x), (_, y))| explicit_cast_allowed(&x.logical, &y.logical))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(text: &str) -> DataType {
        DataType::parse(text).unwrap()
    }

    #[test]
    fn decimal_arithmetic_types() {
        for (op, a, b, expected) in [
            ("+", (10, 2), (8, 4), "DECIMAL(13, 4)"),
            ("*", (10, 2), (8, 4), "DECIMAL(19, 6)"),
            ("/", (10, 2), (8, 4), "DECIMAL(23, 11)"),
            ("+", (38, 10), (38, 10), "DECIMAL(38, 9)"),
            ("*", (38, 10), (38, 10), "DECIMAL(38, 6)"),
            ("/", (38, 10), (38, 10), "DECIMAL(38, 6)"),
            ("%", (5, 1), (7, 3), "DECIMAL(7, 3)"),
            ("+", (10, 2), (10, 0), "DECIMAL(13, 2)"),
            ("*", (10, 2), (10, 0), "DECIMAL(21, 2)"),
            ("/", (10, 0), (2, 1), "DECIMAL(17, 6)"),
            ("/", (2, 1), (10, 0), "DECIMAL(13, 12)"),
            ("*", (20, 10), (20, 10), "DECIMAL(38, 17)"),
        ] {
            assert_eq!(decimal_result(op, a, b).to_string(), expected, "{a:?} {op} {b:?}");
        }
    }

    #[test]
    fn common_types() {
        for (a, b, expected) in [
            ("INT", "DECIMAL(2, 1) NOT NULL", Some("DECIMAL(11, 1)")),
            ("TINYINT NOT NULL", "DECIMAL(6, 2) NOT NULL", Some("DECIMAL(6, 2) NOT NULL")),
            ("CHAR(3)", "CHAR(5)", Some("VARCHAR(5)")),
            ("CHAR(3)", "STRING", Some("STRING")),
            ("INT", "FLOAT", Some("FLOAT")),
            ("FLOAT", "DECIMAL(6, 2)", Some("DOUBLE")),
            ("TIMESTAMP(0)", "TIMESTAMP(3)", Some("TIMESTAMP(3)")),
            ("INT", "STRING", None),
            ("DATE", "BOOLEAN", None),
            ("ARRAY<INT>", "ARRAY<BIGINT NOT NULL>", Some("ARRAY<BIGINT>")),
        ] {
            let common = common_type(&[ty(a), ty(b)]).map(|t| t.to_string());
            assert_eq!(common.as_deref(), expected, "{a}, {b}");
        }
    }

    #[test]
    fn sinks_take_implicit_casts_only() {
        let allowed = |a, b| implicit_cast_allowed(&ty(a).logical, &ty(b).logical);
        assert!(allowed("CHAR(3)", "STRING"));
        assert!(!allowed("STRING", "CHAR(3)"));
        assert!(allowed("INT", "BIGINT"));
        assert!(!allowed("BIGINT", "INT"));
        assert!(allowed("INT", "DECIMAL(4, 1)"));
        assert!(!allowed("STRING", "INT"));
        assert!(allowed("TIMESTAMP(3)", "TIMESTAMP_LTZ(3)"));
    }
}
