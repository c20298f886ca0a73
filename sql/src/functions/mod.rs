//! The registry of built-in scalar functions: names, arguments, result types.
//!
//! A [`Signature`] says how many arguments a function takes, of which kinds (and with which casts),
//! and what it gives; tables of them stand in one module a subject. The kernels live in the engine
//! under the same names, or under [`Signature::kernel`] where several names share one.

mod math;
mod strings;
mod temporal;

use hurtig_graph::{DataType, Expr, LogicalType as T};

use crate::error::SqlError;

/// Whether `function` may give another value each time it is evaluated.
pub(crate) fn is_volatile(function: &str) -> bool {
    const VOLATILE: [&str; 12] = [
        "RAND",
        "RAND_INTEGER",
        "UUID",
        "UNIX_TIMESTAMP",
        "CURRENT_TIMESTAMP",
        "NOW",
        "CURRENT_ROW_TIMESTAMP",
        "PROCTIME",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "LOCALTIME",
        "LOCALTIMESTAMP",
    ];
    VOLATILE.contains(&function)
}

/// What an argument must be. Arguments are cast to the type that the kernel works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arg {
    /// CHAR or VARCHAR.
    Text,
    /// An integer, taken as INT.
    Int,
    /// An integer, taken as BIGINT.
    Long,
    /// Any number, taken as DOUBLE.
    Double,
    /// Any number.
    Number,
    /// BINARY or VARBINARY.
    Binary,
    /// Text or binary.
    TextOrBinary,
    /// Text, or an integer taken as BIGINT.
    TextOrLong,
    /// Text, or an integer taken as INT.
    TextOrInt,
    /// A timestamp of either kind, or text.
    TimestampOrText,
    /// Anything but a bare NULL.
    Any,
}

impl Arg {
    /// The argument with its cast, or `None` when its type does not do.
    fn accept(self, expr: Expr) -> Option<Expr> {
        let ty = &expr.data_type.logical;
        let fits = match self {
            Arg::Text => ty.is_string(),
            Arg::Int | Arg::Long => ty.is_integer(),
            Arg::Double | Arg::Number => ty.is_numeric(),
            Arg::Binary => ty.is_binary(),
            Arg::TextOrBinary => ty.is_string() || ty.is_binary(),
            Arg::TextOrLong | Arg::TextOrInt => ty.is_string() || ty.is_integer(),
            Arg::TimestampOrText => ty.is_string() || ty.is_timestamp(),
            Arg::Any => *ty != T::Null,
        };
        if !fits {
            return None;
        }
        let to = match self {
            Arg::Int => T::Int,
            Arg::TextOrInt if ty.is_integer() => T::Int,
            Arg::Long => T::BigInt,
            Arg::TextOrLong if ty.is_integer() => T::BigInt,
            Arg::Double => T::Double,
            _ => return Some(expr),
        };
        let nullable = expr.data_type.nullable;
        Some(expr.cast_to(DataType { logical: to, nullable }))
    }

    fn describe(self) -> &'static str {
        match self {
            Arg::Text => "a string",
            Arg::Int | Arg::Long => "an integer",
            Arg::Double | Arg::Number => "a number",
            Arg::Binary => "a binary string",
            Arg::TextOrBinary => "a string or binary string",
            Arg::TextOrLong | Arg::TextOrInt => "a string or an integer",
            Arg::TimestampOrText => "a timestamp or a string",
            Arg::Any => "a value of a known type: CAST a bare NULL",
        }
    }
}

/// When a result is nullable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    /// When an argument is.
    Propagate,
    /// Always.
    Always,
    /// When the first argument is.
    First,
}

/// A function.
#[derive(Clone, Copy)]
pub(crate) struct Signature {
    name: &'static str,
    arguments: &'static [Arg],
    required: usize,
    rest: Option<Arg>,
    result: fn(&[Expr]) -> T,
    nulls: Nulls,
    kernel: &'static str,
}

impl Signature {
    const fn new(name: &'static str, arguments: &'static [Arg], result: fn(&[Expr]) -> T) -> Signature {
        Signature {
            name,
            arguments,
            required: arguments.len(),
            rest: None,
            result,
            nulls: Nulls::Propagate,
            kernel: name,
        }
    }

    /// The last `count` arguments may be left out.
    const fn optional(mut self, count: usize) -> Signature {
        self.required = self.arguments.len() - count;
        self
    }

    /// Any number of further arguments.
    const fn and_more(mut self, rest: Arg) -> Signature {
        self.rest = Some(rest);
        self
    }

    /// NULL may come out although none goes in.
    const fn nullable(mut self) -> Signature {
        self.nulls = Nulls::Always;
        self
    }

    /// Only a NULL first argument makes the result NULL.
    const fn nullable_by_first(mut self) -> Signature {
        self.nulls = Nulls::First;
        self
    }

    /// Runs on the kernel of another name.
    const fn kernel(mut self, kernel: &'static str) -> Signature {
        self.kernel = kernel;
        self
    }

    /// A call of this function.
    fn call(&self, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
        let count = arguments.len();
        if count < self.required || (self.rest.is_none() && count > self.arguments.len()) {
            return Err(self.wrong_count(count));
        }
        let mut accepted = Vec::with_capacity(count);
        for (position, argument) in arguments.into_iter().enumerate() {
            let Some(kind) = self.arguments.get(position).copied().or(self.rest) else {
                return Err(self.wrong_count(count));
            };
            let ty = argument.data_type.logical.clone();
            accepted.push(kind.accept(argument).ok_or_else(|| {
                SqlError::validation(format!(
                    "argument {} of {} must be {}, not {ty}",
                    position + 1,
                    self.name,
                    kind.describe()
                ))
            })?);
        }
        let nullable = match self.nulls {
            Nulls::Propagate => accepted.iter().any(|a| a.data_type.nullable),
            Nulls::Always => true,
            Nulls::First => accepted.first().is_some_and(|a| a.data_type.nullable),
        };
        let logical = (self.result)(&accepted);
        Ok(Expr::call(self.kernel, accepted, DataType { logical, nullable }))
    }

    fn wrong_count(&self, count: usize) -> SqlError {
        let most = self.arguments.len();
        let takes = match self.rest {
            Some(_) => format!("at least {}", self.required),
            None if self.required == most => format!("{most}"),
            None => format!("{} to {most}", self.required),
        };
        SqlError::validation(format!("{} takes {takes} arguments, not {count}", self.name))
    }
}

/// The built-in function of an upper-case name.
fn find(name: &str) -> Option<&'static Signature> {
    [strings::FUNCTIONS, math::FUNCTIONS, temporal::FUNCTIONS]
        .into_iter()
        .flatten()
        .find(|signature| signature.name == name)
}

/// Whether there is a built-in function of this upper-case name in the tables.
pub(crate) fn exists(name: &str) -> bool {
    find(name).is_some()
}

/// A call of the built-in function `name` (upper case), `None` when there is none.
pub(crate) fn call(name: &str, arguments: Vec<Expr>) -> Option<Result<Expr, SqlError>> {
    find(name).map(|signature| signature.call(arguments))
}

/// Type of the argument at `position`; arguments have been counted before.
fn type_of(arguments: &[Expr], position: usize) -> T {
    arguments.get(position).map_or(T::Null, |a| a.data_type.logical.clone())
}

/// The value of an integer literal argument.
fn int_literal(arguments: &[Expr], position: usize) -> Option<i64> {
    use hurtig_graph::{ExprKind, Literal};
    let argument = arguments.get(position)?;
    let literal = match &argument.kind {
        ExprKind::Cast { input, .. } => &input.kind,
        kind => kind,
    };
    match literal {
        ExprKind::Literal(Literal::Int(value)) => Some(*value),
        _ => None,
    }
}
