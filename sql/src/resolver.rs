//! SQL text inside job graphs that clients build themselves.

use hurtig_graph::aggregates::AggregateFunction;
use std::sync::Arc;

use hurtig_graph::config::Configuration;
use hurtig_graph::job::ExprResolver;
use hurtig_graph::{DataType, Expr, RowField, RowSchema};

use crate::binder::{self, Scope, ScopeColumn};
use crate::error::SqlError;
use crate::parser::parse_expression;
use crate::session::{SessionSettings, UserFunctions};

/// Resolves expressions with the parser and the binder of queries.
#[derive(Debug, Clone, Default)]
pub struct SqlResolver {
    functions: Arc<UserFunctions>,
}

impl SqlResolver {
    /// With user-defined functions.
    pub fn new(functions: Arc<UserFunctions>) -> SqlResolver {
        SqlResolver { functions }
    }
}

impl ExprResolver for SqlResolver {
    fn scalar(&self, sql: &str, input: &RowSchema, configuration: &Configuration) -> Result<Expr, String> {
        scalar(sql, input, configuration, &self.functions).map_err(|e| e.to_string())
    }

    fn aggregate_type(&self, function: &str, arguments: &[DataType], _grouped: bool) -> Result<DataType, String> {
        let known =
            AggregateFunction::parse(function).ok_or_else(|| format!("there is no aggregate function {function}"))?;
        known.result_type(arguments).ok_or_else(|| {
            let types: Vec<String> = arguments.iter().map(|t| t.logical.to_string()).collect();
            format!("{} does not take arguments of type ({})", known.name(), types.join(", "))
        })
    }
}

fn scalar(
    sql: &str,
    input: &RowSchema,
    configuration: &Configuration,
    functions: &Arc<UserFunctions>,
) -> Result<Expr, SqlError> {
    let settings = SessionSettings::new(configuration.clone())?.with_functions(functions.clone());
    let column = |(index, field): (usize, &RowField)| ScopeColumn {
        qualifier: None,
        name: field.name.clone(),
        data_type: field.data_type.clone(),
        time: field.time,
        index,
    };
    let scope = Scope { columns: input.fields.iter().enumerate().map(column).collect(), session: &settings };
    binder::bind_scalar(&parse_expression(sql)?, &scope)
}
