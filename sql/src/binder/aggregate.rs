//! Aggregate functions: which exist, what they take and give.

use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType as T};
use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    NullTreatment, Spanned,
};

use super::expr::{Binder, literal_text};
use super::operators::condition;
use crate::error::SqlError;

/// A call of an aggregate function over the input's columns.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundAggregate {
    /// COUNT, SUM, ...
    pub function: String,
    /// Over the input; empty for COUNT(*).
    pub args: Vec<Expr>,
    /// DISTINCT.
    pub distinct: bool,
    /// Only rows for which this is TRUE count.
    pub filter: Option<Expr>,
    /// The type of the result.
    pub result: DataType,
    /// Constants: the separator of LISTAGG, `IGNORE NULLS`.
    pub parameters: Vec<String>,
}

const NAMES: [&str; 21] = [
    "COUNT",
    "SUM",
    "$SUM0",
    "AVG",
    "MIN",
    "MAX",
    "FIRST_VALUE",
    "LAST_VALUE",
    "LISTAGG",
    "COLLECT",
    "ARRAY_AGG",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "VARIANCE",
    "VAR_POP",
    "VAR_SAMP",
    "SINGLE_VALUE",
    "JSON_OBJECTAGG",
    "JSON_ARRAYAGG",
    "PERCENTILE",
];

/// Whether `name` is that of an aggregate function.
pub fn is_aggregate(name: &str) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The upper-case name of a call of an aggregate function.
pub(super) fn name_of(function: &Function) -> Option<String> {
    let name = function.name.to_string().to_uppercase();
    is_aggregate(&name).then_some(name)
}

pub(super) fn bind(binder: &Binder<'_, '_>, name: &str, function: &Function) -> Result<BoundAggregate, SqlError> {
    let list = match &function.args {
        FunctionArguments::List(list) => list,
        _ => return Err(SqlError::parse(format!("{name} needs arguments in parentheses"), None)),
    };
    if !function.within_group.is_empty() {
        return Err(SqlError::validation(format!("{name} has no WITHIN GROUP")));
    }
    if name == "PERCENTILE" {
        return Err(SqlError::unsupported("the aggregate PERCENTILE is", function.name.span()));
    }
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let (star, mut args) = arguments(binder, name, &list.args)?;
    let filter = match &function.filter {
        Some(filter) => Some(condition(binder.bind_input(filter)?, "FILTER")?),
        None => None,
    };
    let mut treatment = function.null_treatment;
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => treatment = Some(*nulls),
            other => return Err(SqlError::validation(format!("{name} has no clause {other}"))),
        }
    }
    let mut parameters = Vec::new();
    match treatment {
        None => {}
        Some(NullTreatment::IgnoreNulls) if name == "ARRAY_AGG" => parameters.push("IGNORE NULLS".to_owned()),
        Some(NullTreatment::RespectNulls) if name == "ARRAY_AGG" => {}
        Some(_) => return Err(SqlError::validation(format!("{name} takes neither IGNORE NULLS nor RESPECT NULLS"))),
    }
    if star && name != "COUNT" {
        return Err(SqlError::validation(format!("{name}(*) makes no sense: only COUNT takes *")));
    }
    if name == "LISTAGG" && args.len() == 2 {
        let separator = args.pop().as_ref().and_then(literal_text).map(str::to_owned);
        parameters
            .push(separator.ok_or_else(|| SqlError::validation("the separator of LISTAGG must be a string literal"))?);
    }
    if let ("JSON_ARRAYAGG" | "JSON_OBJECTAGG", Some(nulls)) = (name, args.last().and_then(literal_text)) {
        // What is aggregated is the JSON text of the value; how NULLs are handled is a parameter.
        parameters.push(nulls.to_owned());
        args.pop();
        if let Some(value) = args.pop() {
            let raw = matches!(&value.kind, ExprKind::Call { function, .. }
                if function == "JSON_OBJECT" || function == "JSON_ARRAY");
            args.push(if raw { value } else { super::json::serialised(value)? });
        }
        let keyed = name == "JSON_OBJECTAGG";
        let key_is_text = args.first().is_some_and(|k| k.data_type.logical.is_string());
        if args.len() != if keyed { 2 } else { 1 } || (keyed && !key_is_text) {
            return Err(SqlError::validation(format!(
                "{name} takes {}",
                if keyed { "a string key and a value" } else { "one value" }
            )));
        }
        let result = T::Varchar(2000).not_null();
        return Ok(BoundAggregate { function: name.to_owned(), args, distinct, filter, result, parameters });
    }
    if name == "COUNT" && args.len() > 1 && !distinct {
        args = vec![all_present(args)];
    }
    let binary = args.iter().find(|a| distinct && a.data_type.logical.is_binary());
    if let Some(argument) = binary {
        return Err(SqlError::validation(format!(
            "{name}(DISTINCT ...) cannot compare values of type {}",
            argument.data_type.logical
        )));
    }
    if !star && args.len() != 1 {
        return Err(SqlError::validation(format!("{name} takes one argument, not {}", args.len())));
    }
    let (function, result) = match args.first() {
        None => ("COUNT".to_owned(), T::BigInt.not_null()),
        Some(argument) => typed(name, &argument.data_type)?,
    };
    Ok(BoundAggregate { function, args, distinct, filter, result, parameters })
}

/// TRUE where no argument is NULL, else NULL: what COUNT of several arguments counts.
fn all_present(arguments: Vec<Expr>) -> Expr {
    let present = arguments
        .into_iter()
        .map(|a| Expr::call("IS NOT NULL", vec![a], T::Boolean.not_null()))
        .reduce(|a, b| Expr::call("AND", vec![a, b], T::Boolean.not_null()))
        .unwrap_or_else(|| Expr::literal(Literal::Boolean(true), T::Boolean.not_null()));
    let counted = Expr::literal(Literal::Boolean(true), T::Boolean.not_null());
    Expr {
        kind: ExprKind::Case { branches: vec![(present, counted)], otherwise: None },
        data_type: T::Boolean.nullable(),
    }
}

fn arguments(binder: &Binder<'_, '_>, name: &str, list: &[FunctionArg]) -> Result<(bool, Vec<Expr>), SqlError> {
    let mut args = Vec::with_capacity(list.len());
    for argument in list {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if list.len() == 1 => return Ok((true, Vec::new())),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => args.push(binder.bind_input(expr)?),
            other => return Err(SqlError::validation(format!("{name} cannot take the argument '{other}'"))),
        }
    }
    Ok((false, args))
}

/// The function's canonical name and the type of its result over an argument.
fn typed(name: &str, argument: &DataType) -> Result<(String, DataType), SqlError> {
    let ty = &argument.logical;
    let refuse = || SqlError::validation(format!("{name} cannot aggregate values of type {ty}"));
    if *ty == T::Null {
        return Err(super::bare_null());
    }
    let canonical = match name {
        "$SUM0" => "SUM0",
        "STDDEV" => "STDDEV_SAMP",
        "VARIANCE" => "VAR_SAMP",
        other => other,
    };
    let result = match canonical {
        "COUNT" => T::BigInt.not_null(),
        "SUM" | "SUM0" if ty.is_numeric() => {
            let sum = match ty {
                T::Decimal(_, s) => T::Decimal(38, *s),
                other => other.clone(),
            };
            DataType { logical: sum, nullable: canonical == "SUM" }
        }
        "AVG" | "STDDEV_POP" | "STDDEV_SAMP" | "VAR_POP" | "VAR_SAMP" if ty.is_numeric() => match ty {
            T::Decimal(_, s) => T::Decimal(38, (*s).max(6)).nullable(),
            other => other.clone().nullable(),
        },
        "MIN" | "MAX" if ty.is_numeric() || ty.is_string() || ty.is_temporal() || *ty == T::Boolean => {
            ty.clone().nullable()
        }
        "FIRST_VALUE" | "LAST_VALUE" | "SINGLE_VALUE" => ty.clone().nullable(),
        "LISTAGG" if ty.is_string() => ty.clone().nullable(),
        "COLLECT" => T::Multiset(Box::new(argument.clone())).not_null(),
        "ARRAY_AGG" => T::Array(Box::new(argument.clone())).nullable(),
        _ => return Err(refuse()),
    };
    Ok((canonical.to_owned(), result))
}
