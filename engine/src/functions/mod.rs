//! The kernels of Flink's scalar functions and operators, by subject.
//!
//! [`lookup`] finds the kernel of a call by its name and the types of its arguments. Names, argument
//! types and result types are fixed by the SQL function registry, which also inserts the casts: a
//! kernel finds its arguments in the types it works on.
//!
//! Arguments that choose a variant (the unit of EXTRACT) are string literals.

mod arithmetic;
mod collections;
mod compare;
mod conditional;
mod encode;
mod interval;
mod json;
mod logic;
mod math;
mod pattern;
mod regex;
mod strings;
mod temporal;

use hurtig_graph::{DataType, Expr, ExprKind, Literal};

use crate::error::{EngineError, Result};
use crate::expr::ExprContext;
use crate::expr::value::Kernel;

/// A kernel and what the compiler must know of it.
pub(crate) struct Function {
    /// The kernel.
    pub kernel: Kernel,
    /// It fails for some arguments, so it must not see rows that do not need it.
    pub fallible: bool,
    /// It gives another value each time.
    pub volatile: bool,
}

impl Function {
    /// Never fails, same result for same arguments.
    fn pure(kernel: Kernel) -> Function {
        Function { kernel, fallible: false, volatile: false }
    }

    /// Fails for some arguments.
    fn fallible(kernel: Kernel) -> Function {
        Function { kernel, fallible: true, volatile: false }
    }

    /// Another value each time.
    fn volatile(kernel: Kernel) -> Function {
        Function { kernel, fallible: false, volatile: true }
    }
}

/// A call to find the kernel of.
pub(crate) struct Call<'a> {
    /// Upper-case name.
    pub name: &'a str,
    /// The arguments, for their types and literal values.
    pub arguments: &'a [Expr],
    /// The type of the result.
    pub result: &'a DataType,
    /// Session zone, clock, watermark.
    pub context: &'a ExprContext,
}

impl Call<'_> {
    /// The type of an argument.
    fn ty(&self, position: usize) -> Result<&hurtig_graph::LogicalType> {
        match self.arguments.get(position) {
            Some(argument) => Ok(&argument.data_type.logical),
            None => Err(EngineError::Validation(format!("{} lacks argument {}", self.name, position + 1))),
        }
    }

    /// The value of an argument that is a string literal.
    fn text(&self, position: usize) -> Option<&str> {
        match self.arguments.get(position).map(|a| &a.kind) {
            Some(ExprKind::Literal(Literal::String(text))) => Some(text),
            _ => None,
        }
    }

    /// The value of an argument that is an integer literal.
    fn int(&self, position: usize) -> Option<i64> {
        match self.arguments.get(position).map(|a| &a.kind) {
            Some(ExprKind::Literal(Literal::Int(value))) => Some(*value),
            _ => None,
        }
    }
}

/// The kernel of a call.
///
/// # Errors
/// Unsupported: no such function, or not for these types.
pub(crate) fn lookup(name: &str, arguments: &[Expr], result: &DataType, context: &ExprContext) -> Result<Function> {
    let call = Call { name, arguments, result, context };
    for find in [
        compare::find,
        logic::find,
        interval::find,
        arithmetic::find,
        math::find,
        strings::find,
        regex::find,
        temporal::find,
        conditional::find,
        collections::find,
        encode::find,
        json::find,
    ] {
        if let Some(function) = find(&call)? {
            return Ok(function);
        }
    }
    let types: Vec<String> = arguments.iter().map(|a| a.data_type.logical.to_string()).collect();
    Err(EngineError::Unsupported(format!("the function {name}({}) is not supported", types.join(", "))))
}
