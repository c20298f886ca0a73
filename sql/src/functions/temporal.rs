//! Date and time functions. Those with a unit (EXTRACT, TIMESTAMPADD) are bound by the binder.

use hurtig_graph::{Expr, LogicalType as T};

use super::{Arg, Signature, int_literal, type_of};

fn text(_: &[Expr]) -> T {
    T::STRING
}

fn long(_: &[Expr]) -> T {
    T::BigInt
}

/// TIMESTAMP_LTZ(3), or finer where the precision asks for it.
fn to_ltz(arguments: &[Expr]) -> T {
    match int_literal(arguments, 1) {
        Some(precision @ 4..=9) if type_of(arguments, 0).is_numeric() => T::TimestampLtz(precision as u8),
        _ => T::TimestampLtz(3),
    }
}

use Arg::{Any, Long, Text, TimestampOrText};

pub(super) const FUNCTIONS: &[Signature] = &[
    Signature::new("DATE_FORMAT", &[TimestampOrText, Text], text).nullable(),
    Signature::new("TO_DATE", &[Text, Text], |_| T::Date).optional(1).nullable(),
    Signature::new("TO_TIMESTAMP", &[Text, Text], |_| T::Timestamp(3)).optional(1).nullable(),
    Signature::new("TO_TIMESTAMP_LTZ", &[Any, Any, Text], to_ltz).optional(2).nullable(),
    Signature::new("FROM_UNIXTIME", &[Long, Text], text).optional(1).nullable(),
    Signature::new("UNIX_TIMESTAMP", &[Text, Text], long).optional(2),
    Signature::new("CONVERT_TZ", &[Text, Text, Text], text).nullable(),
    Signature::new("CURRENT_TIMESTAMP", &[], |_| T::TimestampLtz(3)),
    Signature::new("NOW", &[], |_| T::TimestampLtz(3)),
    Signature::new("CURRENT_ROW_TIMESTAMP", &[], |_| T::TimestampLtz(3)),
    Signature::new("PROCTIME", &[], |_| T::TimestampLtz(3)),
    Signature::new("CURRENT_DATE", &[], |_| T::Date),
    Signature::new("CURRENT_TIME", &[], |_| T::Time(0)),
    Signature::new("LOCALTIME", &[], |_| T::Time(0)),
    Signature::new("LOCALTIMESTAMP", &[], |_| T::Timestamp(3)),
];
