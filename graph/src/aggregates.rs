//! Aggregate functions: which exist, their result types, and how one splits into a part before and
//! a part after a shuffle.
//!
//! The engine computes them (`hurtig-engine`, module `aggregates`); the planner and the job graph
//! need only what is here. Types follow Flink: SUM and AVG of integers keep the argument's type,
//! decimals grow to 38 digits, STDDEV and VAR keep the argument's type too.

use hurtig_proto::v1;

use crate::error::GraphError;
use crate::schema::{RowField, RowSchema};
use crate::types::{DataType, LogicalType};

/// The aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// COUNT(*) and COUNT(x)
    Count,
    /// SUM
    Sum,
    /// AVG
    Avg,
    /// MIN
    Min,
    /// MAX
    Max,
    /// FIRST_VALUE, in order of arrival
    FirstValue,
    /// LAST_VALUE, in order of arrival
    LastValue,
    /// LISTAGG
    ListAgg,
    /// COLLECT
    Collect,
    /// ARRAY_AGG
    ArrayAgg,
    /// STDDEV_POP
    StddevPop,
    /// STDDEV_SAMP, STDDEV
    StddevSamp,
    /// VAR_POP
    VarPop,
    /// VAR_SAMP, VARIANCE
    VarSamp,
}

/// Name of the column with the number of rows (additions less retractions) that a LOCAL phase over
/// retracting input emits behind the accumulator columns.
pub const ROW_COUNT_COLUMN: &str = "$rows";
/// Name of the last column that a LOCAL window aggregate emits: the end of the slice, in ms.
pub const SLICE_END_COLUMN: &str = "$slice_end";

impl AggregateFunction {
    /// The function of that name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "COUNT" => Self::Count,
            "SUM" => Self::Sum,
            "AVG" => Self::Avg,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            "FIRST_VALUE" => Self::FirstValue,
            "LAST_VALUE" => Self::LastValue,
            "LISTAGG" => Self::ListAgg,
            "COLLECT" => Self::Collect,
            "ARRAY_AGG" => Self::ArrayAgg,
            "STDDEV_POP" => Self::StddevPop,
            "STDDEV_SAMP" | "STDDEV" => Self::StddevSamp,
            "VAR_POP" => Self::VarPop,
            "VAR_SAMP" | "VARIANCE" => Self::VarSamp,
            _ => return None,
        })
    }

    /// The upper-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "COUNT",
            Self::Sum => "SUM",
            Self::Avg => "AVG",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::FirstValue => "FIRST_VALUE",
            Self::LastValue => "LAST_VALUE",
            Self::ListAgg => "LISTAGG",
            Self::Collect => "COLLECT",
            Self::ArrayAgg => "ARRAY_AGG",
            Self::StddevPop => "STDDEV_POP",
            Self::StddevSamp => "STDDEV_SAMP",
            Self::VarPop => "VAR_POP",
            Self::VarSamp => "VAR_SAMP",
        }
    }

    /// The result's type for arguments of these types; `None` when they do not fit.
    pub fn result_type(self, arguments: &[DataType]) -> Option<DataType> {
        if self == Self::Count {
            return (arguments.len() <= 1).then(|| LogicalType::BigInt.not_null());
        }
        let [argument] = arguments else { return None };
        let ty = argument.logical.clone();
        Some(match self {
            Self::Count => LogicalType::BigInt.not_null(),
            Self::Sum => sum_type(&ty)?.nullable(),
            Self::Avg => average_type(&ty)?.nullable(),
            Self::Min | Self::Max => comparable(&ty).then_some(ty)?.nullable(),
            Self::FirstValue | Self::LastValue => ty.nullable(),
            Self::ListAgg => ty.is_string().then_some(LogicalType::STRING)?.nullable(),
            Self::Collect => LogicalType::Multiset(Box::new(argument.clone())).not_null(),
            Self::ArrayAgg => LogicalType::Array(Box::new(argument.clone())).nullable(),
            Self::StddevPop | Self::StddevSamp | Self::VarPop | Self::VarSamp => {
                ty.is_numeric().then_some(ty)?.nullable()
            }
        })
    }

    /// The accumulator's columns for an argument of type `argument` (`None`: COUNT(*)), with the
    /// suffixes of their names; `None` when it has no form in columns that can be merged.
    fn split_types(self, argument: Option<&LogicalType>, retracts: bool) -> Option<Vec<(&'static str, LogicalType)>> {
        if self == Self::Count {
            return Some(vec![("count", LogicalType::BigInt)]);
        }
        let ty = argument?;
        match self {
            Self::Sum | Self::Avg => Some(vec![("sum", sum_state(self, ty)?), ("count", LogicalType::BigInt)]),
            Self::Min if !retracts && comparable(ty) => Some(vec![("min", ty.clone())]),
            Self::Max if !retracts && comparable(ty) => Some(vec![("max", ty.clone())]),
            Self::StddevPop | Self::StddevSamp | Self::VarPop | Self::VarSamp if ty.is_numeric() => {
                let sums = if ty.is_integer() { LogicalType::Decimal(38, 0) } else { LogicalType::Double };
                Some(vec![("count", LogicalType::BigInt), ("sum", sums.clone()), ("squares", sums)])
            }
            _ => None,
        }
    }
}

/// What SUM and AVG add up in.
fn sum_state(function: AggregateFunction, ty: &LogicalType) -> Option<LogicalType> {
    Some(match ty {
        t if t.is_integer() => LogicalType::BigInt,
        LogicalType::Decimal(_, s) => LogicalType::Decimal(38, *s),
        LogicalType::Float if function == AggregateFunction::Sum => LogicalType::Float,
        LogicalType::Float | LogicalType::Double => LogicalType::Double,
        _ => return None,
    })
}

fn sum_type(ty: &LogicalType) -> Option<LogicalType> {
    match ty {
        LogicalType::Decimal(_, s) => Some(LogicalType::Decimal(38, *s)),
        t if t.is_numeric() => Some(t.clone()),
        _ => None,
    }
}

fn average_type(ty: &LogicalType) -> Option<LogicalType> {
    match ty {
        LogicalType::Decimal(_, s) => Some(LogicalType::Decimal(38, (*s).max(6))),
        t if t.is_numeric() => Some(t.clone()),
        _ => None,
    }
}

/// Types that MIN and MAX take.
fn comparable(ty: &LogicalType) -> bool {
    ty.is_numeric()
        || ty.is_string()
        || ty.is_binary()
        || ty.is_temporal()
        || ty.is_interval()
        || *ty == LogicalType::Boolean
}

/// The function that `call` names.
///
/// # Errors
/// [`GraphError::Unsupported`] when there is none of that name.
pub fn function_of(call: &v1::AggregateCall) -> Result<AggregateFunction, GraphError> {
    AggregateFunction::parse(&call.function).ok_or_else(|| {
        GraphError::Unsupported(format!(
            "the aggregate function {} is not supported: use COUNT, SUM, AVG, MIN, MAX, FIRST_VALUE, LAST_VALUE, \
             LISTAGG, COLLECT, ARRAY_AGG, STDDEV_POP, STDDEV_SAMP, VAR_POP or VAR_SAMP",
            call.function
        ))
    })
}

/// The types of the (resolved) arguments of `call` over rows of `input`.
///
/// # Errors
/// [`GraphError::Graph`] when an argument does not exist.
pub fn argument_types(call: &v1::AggregateCall, input: &RowSchema) -> Result<Vec<DataType>, GraphError> {
    call.arguments
        .iter()
        .map(|&i| {
            input.fields.get(i as usize).map(|f| f.data_type.clone()).ok_or_else(|| {
                GraphError::at(
                    format!("aggregates.{}", call.name),
                    format!("column {i} does not exist: the input has {}", input.len()),
                )
            })
        })
        .collect()
}

/// The columns of the result of `call` by its own declaration or, where that is empty, by the
/// function's rule.
///
/// # Errors
/// An unknown function, or arguments that do not fit it.
pub fn result_field(call: &v1::AggregateCall, input: &RowSchema) -> Result<RowField, GraphError> {
    if !call.r#type.is_empty() {
        return Ok(RowField::new(call.name.clone(), DataType::parse(&call.r#type)?));
    }
    let function = function_of(call)?;
    let arguments = argument_types(call, input)?;
    let ty = function.result_type(&arguments).ok_or_else(|| {
        let types: Vec<String> = arguments.iter().map(|t| t.logical.to_string()).collect();
        GraphError::at(
            format!("aggregates.{}", call.name),
            format!("{} does not take arguments of type ({})", function.name(), types.join(", ")),
        )
    })?;
    Ok(RowField::new(call.name.clone(), ty))
}

/// The accumulator columns that the LOCAL phase emits for `call` over rows of `input`. `None`: the
/// call cannot be split into phases (DISTINCT, functions of order, MIN and MAX with retraction).
///
/// # Errors
/// An unknown function or argument.
pub fn accumulator_types(
    call: &v1::AggregateCall,
    input: &RowSchema,
    input_retracts: bool,
) -> Result<Option<Vec<RowField>>, GraphError> {
    let function = function_of(call)?;
    let arguments = argument_types(call, input)?;
    if call.distinct {
        return Ok(None);
    }
    let types = function.split_types(arguments.first().map(|t| &t.logical), input_retracts);
    Ok(types.map(|types| {
        types.into_iter().map(|(suffix, ty)| RowField::new(format!("{}${suffix}", call.name), ty.nullable())).collect()
    }))
}

/// The rows that the LOCAL phase emits: the key columns, the accumulator columns of each call, with
/// retracting input [`ROW_COUNT_COLUMN`], for windows last [`SLICE_END_COLUMN`]. `None`: some call
/// cannot be split.
///
/// # Errors
/// An unknown function, argument or key column.
pub fn local_output(
    keys: &[u32],
    calls: &[v1::AggregateCall],
    input: &RowSchema,
    input_retracts: bool,
    windowed: bool,
) -> Result<Option<RowSchema>, GraphError> {
    let mut fields = Vec::new();
    for &key in keys {
        let field = input.fields.get(key as usize).ok_or_else(|| {
            GraphError::at("keys", format!("column {key} does not exist: the input has {}", input.len()))
        })?;
        fields.push(RowField::new(field.name.clone(), field.data_type.clone()));
    }
    for call in calls {
        match accumulator_types(call, input, input_retracts)? {
            Some(columns) => fields.extend(columns),
            None => return Ok(None),
        }
    }
    if input_retracts {
        fields.push(RowField::new(ROW_COUNT_COLUMN, LogicalType::BigInt.not_null()));
    }
    if windowed {
        fields.push(RowField::new(SLICE_END_COLUMN, LogicalType::BigInt.not_null()));
    }
    Ok(Some(RowSchema::new(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: &str, arguments: &[u32]) -> v1::AggregateCall {
        v1::AggregateCall {
            function: function.into(),
            arguments: arguments.to_vec(),
            name: "x".into(),
            ..Default::default()
        }
    }

    fn input() -> RowSchema {
        let types = ["INT", "DECIMAL(10, 2)", "STRING", "DOUBLE NOT NULL", "FLOAT"];
        let fields = types.iter().enumerate();
        RowSchema::new(fields.map(|(i, t)| RowField::new(format!("c{i}"), DataType::parse(t).unwrap())).collect())
    }

    #[test]
    fn result_types_are_flinks() {
        for (function, argument, expected) in [
            ("count", 0, "BIGINT NOT NULL"),
            ("SUM", 0, "INT"),
            ("SUM", 1, "DECIMAL(38, 2)"),
            ("AVG", 0, "INT"),
            ("AVG", 1, "DECIMAL(38, 6)"),
            ("AVG", 3, "DOUBLE"),
            ("MAX", 2, "STRING"),
            ("STDDEV_POP", 0, "INT"),
            ("COLLECT", 2, "MULTISET<STRING> NOT NULL"),
            ("ARRAY_AGG", 3, "ARRAY<DOUBLE NOT NULL>"),
            ("LISTAGG", 2, "STRING"),
        ] {
            let field = result_field(&call(function, &[argument]), &input()).unwrap();
            assert_eq!(field.data_type.to_string(), expected, "{function} of column {argument}");
        }
        let error = result_field(&call("SUM", &[2]), &input()).unwrap_err();
        assert_eq!(error.to_string(), "aggregates.x: SUM does not take arguments of type (STRING)");
        assert!(matches!(result_field(&call("MEDIAN", &[0]), &input()), Err(GraphError::Unsupported(_))));
    }

    #[test]
    fn a_local_phase_emits_keys_accumulators_and_where_needed_rows_and_slice() {
        let calls = [call("COUNT", &[]), call("AVG", &[1]), call("VAR_POP", &[0])];
        let schema = local_output(&[2], &calls, &input(), true, true).unwrap().unwrap();
        let columns: Vec<String> = schema.fields.iter().map(|f| format!("{} {}", f.name, f.data_type)).collect();
        assert_eq!(
            columns,
            [
                "c2 STRING",
                "x$count BIGINT",
                "x$sum DECIMAL(38, 2)",
                "x$count BIGINT",
                "x$count BIGINT",
                "x$sum DECIMAL(38, 0)",
                "x$squares DECIMAL(38, 0)",
                "$rows BIGINT NOT NULL",
                "$slice_end BIGINT NOT NULL"
            ]
        );
    }

    #[test]
    fn what_cannot_be_merged_cannot_be_split() {
        let distinct = v1::AggregateCall { distinct: true, ..call("COUNT", &[0]) };
        for (call, retracts) in [
            (distinct, false),
            (call("LISTAGG", &[2]), false),
            (call("MAX", &[0]), true),
            (call("LAST_VALUE", &[0]), false),
        ] {
            assert_eq!(accumulator_types(&call, &input(), retracts).unwrap(), None, "{}", call.function);
        }
        assert!(accumulator_types(&call("MAX", &[0]), &input(), false).unwrap().is_some());
    }
}
