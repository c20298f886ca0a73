//! Mathematical functions.

use hurtig_graph::{Expr, LogicalType as T};

use super::{Arg, Signature, int_literal, type_of};

fn double(_: &[Expr]) -> T {
    T::Double
}

fn text(_: &[Expr]) -> T {
    T::STRING
}

fn first(arguments: &[Expr]) -> T {
    type_of(arguments, 0)
}

/// FLOOR and CEIL keep the type; a DECIMAL loses its scale.
fn whole(arguments: &[Expr]) -> T {
    match type_of(arguments, 0) {
        T::Decimal(p, _) => T::Decimal(p, 0),
        other => other,
    }
}

/// ROUND and TRUNCATE keep the type; a DECIMAL takes the scale asked for.
fn rounded(arguments: &[Expr]) -> T {
    match type_of(arguments, 0) {
        T::Decimal(p, s) => {
            let digits = if arguments.len() > 1 { int_literal(arguments, 1) } else { Some(0) };
            match digits {
                Some(r) if r >= i64::from(s) => T::Decimal(p, s),
                Some(r) if r >= 0 => T::Decimal((1 + p - s + r as u8).min(38), r as u8),
                Some(_) => T::Decimal((1 + p - s).min(38), 0),
                None => T::Decimal(p, s),
            }
        }
        other => other,
    }
}

use Arg::{Double, Int, Long, Number, Text, TextOrLong};

pub(super) const FUNCTIONS: &[Signature] = &[
    Signature::new("ABS", &[Number], first),
    Signature::new("SIGN", &[Number], first),
    Signature::new("SQRT", &[Double], double),
    Signature::new("LN", &[Double], double),
    Signature::new("LOG10", &[Double], double),
    Signature::new("LOG2", &[Double], double),
    Signature::new("LOG", &[Double, Double], double).optional(1),
    Signature::new("EXP", &[Double], double),
    Signature::new("POWER", &[Double, Double], double),
    Signature::new("SIN", &[Double], double),
    Signature::new("COS", &[Double], double),
    Signature::new("TAN", &[Double], double),
    Signature::new("COT", &[Double], double),
    Signature::new("ASIN", &[Double], double),
    Signature::new("ACOS", &[Double], double),
    Signature::new("ATAN", &[Double], double),
    Signature::new("ATAN2", &[Double, Double], double),
    Signature::new("SINH", &[Double], double),
    Signature::new("COSH", &[Double], double),
    Signature::new("TANH", &[Double], double),
    Signature::new("DEGREES", &[Double], double),
    Signature::new("RADIANS", &[Double], double),
    Signature::new("FLOOR", &[Number], whole),
    Signature::new("CEIL", &[Number], whole),
    Signature::new("CEILING", &[Number], whole).kernel("CEIL"),
    Signature::new("ROUND", &[Number, Int], rounded).optional(1),
    Signature::new("TRUNCATE", &[Number, Int], rounded).optional(1),
    Signature::new("PI", &[], double),
    Signature::new("E", &[], double),
    Signature::new("RAND", &[Int], double).optional(1),
    Signature::new("RAND_INTEGER", &[Int, Int], |_| T::Int).optional(1),
    Signature::new("UUID", &[], |_| T::Char(36)),
    Signature::new("BIN", &[Long], text),
    Signature::new("HEX", &[TextOrLong], text),
    Signature::new("UNHEX", &[Text], |_| T::BYTES).nullable(),
    Signature::new("INET_ATON", &[Text], |_| T::BigInt).nullable(),
    Signature::new("INET_NTOA", &[Long], text).nullable(),
];
