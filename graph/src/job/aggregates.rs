//! Aggregations and windows.
//!
//! The columns of a SINGLE or GLOBAL phase follow from the aggregate calls over the rows before any
//! LOCAL phase; a LOCAL phase emits accumulator columns, which
//! [`crate::aggregates::local_output`] lists.

use hurtig_proto::v1;
use hurtig_proto::v1::{AggregatePhase, ChangelogMode, WindowKind};

use super::columns;
use super::operators::{Context, Input, Output, check_fits};
use crate::aggregates::local_output;
use crate::error::GraphError;
use crate::schema::{RowField, RowSchema, TimeAttribute};
use crate::types::{DataType, LogicalType};

/// The parts that both aggregate operators have.
struct Parts<'a> {
    keys: &'a mut Vec<u32>,
    key_names: &'a mut Vec<String>,
    calls: &'a mut Vec<v1::AggregateCall>,
    phase: i32,
    input_retracts: &'a mut bool,
    aggregate_input: Option<&'a v1::Schema>,
    windowed: bool,
}

/// GROUP BY without windows.
pub(super) fn group(
    aggregate: &mut v1::GroupAggregate,
    input: &Input,
    context: &Context<'_>,
    path: &str,
) -> Result<Output, GraphError> {
    let emit_update_before = aggregate.emit_update_before;
    // DISTINCT over inserts: the first row of a key is all there is. With TTL rows are repeated.
    let distinct =
        aggregate.aggregates.is_empty() && aggregate.state_ttl_ms == 0 && input.mode == ChangelogMode::Append;
    let parts = Parts {
        keys: &mut aggregate.keys,
        key_names: &mut aggregate.key_names,
        calls: &mut aggregate.aggregates,
        phase: aggregate.phase,
        input_retracts: &mut aggregate.input_retracts,
        aggregate_input: aggregate.aggregate_input.as_ref(),
        windowed: false,
    };
    let (phase, fields, _) = aggregated(parts, input, context, path)?;
    let mode = match (phase, emit_update_before) {
        (AggregatePhase::Local, _) => ChangelogMode::Append,
        _ if distinct => ChangelogMode::Append,
        (_, true) => ChangelogMode::Retract,
        (_, false) => ChangelogMode::Upsert,
    };
    Ok(Output { schema: RowSchema::new(fields), mode })
}

/// GROUP BY with a window.
pub(super) fn window(
    aggregate: &mut v1::WindowAggregate,
    input: &Input,
    context: &Context<'_>,
    path: &str,
) -> Result<Output, GraphError> {
    let parts = Parts {
        keys: &mut aggregate.keys,
        key_names: &mut aggregate.key_names,
        calls: &mut aggregate.aggregates,
        phase: aggregate.phase,
        input_retracts: &mut aggregate.input_retracts,
        aggregate_input: aggregate.aggregate_input.as_ref(),
        windowed: true,
    };
    let (phase, mut fields, rows) = aggregated(parts, input, context, path)?;
    let path = format!("{path}.window");
    let spec = aggregate.window.as_mut().ok_or_else(|| GraphError::at(&path, "the window is missing"))?;
    let time = window_spec(spec, &rows, &path)?;
    let divisible = spec.slide_ms == 0 || spec.size_ms % spec.slide_ms == 0;
    if !divisible {
        let reason = format!(
            "the size {} ms is not a multiple of {} ms: aggregation over windows needs that",
            spec.size_ms, spec.slide_ms
        );
        return Err(GraphError::at(format!("{path}.size_ms"), reason));
    }
    if phase != AggregatePhase::Local {
        fields.extend(window_columns(&time));
    }
    Ok(Output { schema: RowSchema::new(fields), mode: ChangelogMode::Append })
}

/// A window table function on its own.
pub(super) fn window_table_function(
    function: &mut v1::WindowTableFunction,
    input: &Input,
    path: &str,
) -> Result<Output, GraphError> {
    let path = format!("{path}.window");
    let spec = function.window.as_mut().ok_or_else(|| GraphError::at(&path, "the window is missing"))?;
    let time = window_spec(spec, &input.schema, &path)?;
    let mut fields = input.schema.fields.clone();
    for field in &mut fields {
        // Event time goes on as window_time.
        if field.time == TimeAttribute::Rowtime {
            field.time = TimeAttribute::None;
        }
    }
    fields.extend(window_columns(&time));
    Ok(Output { schema: RowSchema::new(fields), mode: input.mode })
}

/// The key and result (or accumulator) columns, and the schema that the calls refer to.
fn aggregated(
    parts: Parts<'_>,
    input: &Input,
    context: &Context<'_>,
    path: &str,
) -> Result<(AggregatePhase, Vec<RowField>, RowSchema), GraphError> {
    let phase =
        AggregatePhase::try_from(parts.phase).map_err(|_| GraphError::at(format!("{path}.phase"), "unknown value"))?;
    columns::resolve(parts.keys, parts.key_names, &input.schema, path, ("keys", "key_names"))?;
    if phase != AggregatePhase::Global {
        match input.mode {
            ChangelogMode::Upsert => {
                let reason = "the input updates rows without taking the old ones back (-U), so it cannot be \
                              aggregated: set emit_update_before on the aggregate before it";
                return Err(GraphError::at(path, reason));
            }
            ChangelogMode::Retract => *parts.input_retracts = true,
            _ => {}
        }
    }
    let rows = match (phase, parts.aggregate_input) {
        (AggregatePhase::Global, Some(schema)) => columns::schema(schema, &format!("{path}.aggregate_input"))?,
        (AggregatePhase::Global, None) => {
            let reason = "a GLOBAL phase needs the schema of the rows before the LOCAL phase";
            return Err(GraphError::at(format!("{path}.aggregate_input"), reason));
        }
        _ => input.schema.clone(),
    };
    for (i, call) in parts.calls.iter_mut().enumerate() {
        aggregate_call(call, i, &rows, !parts.keys.is_empty(), context, &format!("{path}.aggregates[{i}]"))?;
    }
    let mut fields: Vec<RowField> = parts.keys.iter().map(|&k| key_field(&input.schema.fields[k as usize])).collect();
    let local = |keys: &[u32], rows: &RowSchema| {
        local_output(keys, parts.calls, rows, *parts.input_retracts, parts.windowed)
            .map_err(|e| columns::below(path, e))?
            .ok_or_else(|| {
                let reason = "these aggregates cannot be split into a LOCAL and a GLOBAL phase: use SINGLE";
                GraphError::at(format!("{path}.phase"), reason)
            })
    };
    match phase {
        AggregatePhase::Local => fields = local(parts.keys, &input.schema)?.fields,
        AggregatePhase::Global => {
            // The keys are columns of the input here, and the accumulators come after them.
            let accumulators = local(&[], &rows)?;
            let expected = RowSchema::new(fields.iter().cloned().chain(accumulators.fields).collect());
            check_fits(&expected, &input.schema, "the input", path)?;
            fields.extend(results(parts.calls, path)?);
        }
        AggregatePhase::Single => fields.extend(results(parts.calls, path)?),
    }
    Ok((phase, fields, rows))
}

/// A key is an ordinary column behind the aggregation.
fn key_field(field: &RowField) -> RowField {
    RowField::new(field.name.clone(), field.data_type.clone())
}

fn results(calls: &[v1::AggregateCall], path: &str) -> Result<Vec<RowField>, GraphError> {
    let field = |(i, call): (usize, &v1::AggregateCall)| {
        let data_type = DataType::parse(&call.r#type)
            .map_err(|e| GraphError::at(format!("{path}.aggregates[{i}].type"), e.to_string()))?;
        Ok(RowField::new(call.name.clone(), data_type))
    };
    calls.iter().enumerate().map(field).collect()
}

fn aggregate_call(
    call: &mut v1::AggregateCall,
    position: usize,
    rows: &RowSchema,
    grouped: bool,
    context: &Context<'_>,
    path: &str,
) -> Result<(), GraphError> {
    if call.function.is_empty() {
        return Err(GraphError::at(format!("{path}.function"), "the aggregate function is missing"));
    }
    call.function = call.function.to_uppercase();
    columns::resolve(&mut call.arguments, &mut call.argument_names, rows, path, ("arguments", "argument_names"))?;
    if let Some(filter) = call.filter {
        let path = format!("{path}.filter");
        let field = &rows.fields[columns::in_range(filter, rows, &path)? as usize];
        if field.data_type.logical != LogicalType::Boolean {
            let reason = format!("a filter must be BOOLEAN, '{}' is {}", field.name, field.data_type.logical);
            return Err(GraphError::at(path, reason));
        }
    }
    if call.name.is_empty() {
        call.name = format!("EXPR${position}");
    }
    if call.r#type.is_empty() {
        let arguments: Vec<DataType> =
            call.arguments.iter().map(|&a| rows.fields[a as usize].data_type.clone()).collect();
        let data_type = context
            .resolver
            .aggregate_type(&call.function, &arguments, grouped)
            .map_err(|reason| GraphError::at(path, reason))?;
        call.r#type = data_type.to_string();
    } else {
        DataType::parse(&call.r#type).map_err(|e| GraphError::at(format!("{path}.type"), e.to_string()))?;
    }
    Ok(())
}

/// Checks a window and gives the type of its time column. `rows` are the rows that it is over.
fn window_spec(spec: &mut v1::WindowSpec, rows: &RowSchema, path: &str) -> Result<LogicalType, GraphError> {
    let kind = WindowKind::try_from(spec.kind).unwrap_or(WindowKind::Unspecified);
    if kind == WindowKind::Unspecified {
        return Err(GraphError::at(format!("{path}.kind"), "the kind is missing: use TUMBLE, HOP or CUMULATE"));
    }
    let (column, field) = match spec.time_name.as_str() {
        "" => (columns::in_range(spec.time_column, rows, &format!("{path}.time_column"))?, "time_column"),
        name => (columns::by_name(name, rows, &format!("{path}.time_name"))?, "time_name"),
    };
    spec.time_column = column;
    spec.time_name.clear();
    let time = &rows.fields[column as usize];
    if time.time != TimeAttribute::Rowtime {
        let reason = format!(
            "windows need a column of event time, '{}' is not one: put a watermark operator on it before",
            time.name
        );
        return Err(GraphError::at(format!("{path}.{field}"), reason));
    }
    if !time.data_type.logical.is_timestamp() {
        let reason = format!("event time must be a timestamp, '{}' is {}", time.name, time.data_type.logical);
        return Err(GraphError::at(format!("{path}.{field}"), reason));
    }
    if spec.size_ms <= 0 {
        let reason = format!("the size must be more than 0 ms, it is {}", spec.size_ms);
        return Err(GraphError::at(format!("{path}.size_ms"), reason));
    }
    if kind == WindowKind::Tumble {
        spec.slide_ms = 0;
    } else if spec.slide_ms <= 0 || spec.slide_ms > spec.size_ms && kind == WindowKind::Cumulate {
        let what = if kind == WindowKind::Hop { "slide" } else { "step" };
        let reason = format!("the {what} of {} ms does not fit the size of {} ms", spec.slide_ms, spec.size_ms);
        return Err(GraphError::at(format!("{path}.slide_ms"), reason));
    }
    Ok(time.data_type.logical.clone())
}

/// window_start, window_end and window_time for a time column of type `time`.
fn window_columns(time: &LogicalType) -> [RowField; 3] {
    let local = LogicalType::Timestamp(3).not_null();
    let attribute = match time {
        LogicalType::TimestampLtz(_) => LogicalType::TimestampLtz(3),
        _ => LogicalType::Timestamp(3),
    };
    [
        RowField::new("window_start", local.clone()),
        RowField::new("window_end", local),
        RowField { name: "window_time".into(), data_type: attribute.not_null(), time: TimeAttribute::Rowtime },
    ]
}
