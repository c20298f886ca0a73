//! Each operator kind: names to positions, expressions typed, output schema and changelog mode
//! derived.

use hurtig_proto::v1;
use hurtig_proto::v1::ChangelogMode;
use hurtig_proto::v1::operator::Kind;

use super::structure::Draft;
use super::{ExprResolver, aggregates, columns, expressions};
use crate::config::Configuration;
use crate::connector::Options;
use crate::error::GraphError;
use crate::expr::Expr;
use crate::schema::{RowField, RowSchema, TimeAttribute};
use crate::types::LogicalType;

/// What resolution needs besides the graph.
pub(super) struct Context<'a> {
    pub resolver: &'a dyn ExprResolver,
    pub configuration: &'a Configuration,
}

/// One input of an operator.
pub(super) struct Input {
    pub schema: RowSchema,
    pub mode: ChangelogMode,
}

/// What an operator emits.
pub(super) struct Output {
    pub schema: RowSchema,
    pub mode: ChangelogMode,
}

/// Resolves the operator of vertex `position`, whose inputs have been resolved.
pub(super) fn resolve(draft: &mut Draft, position: usize, context: &Context<'_>) -> Result<(), GraphError> {
    let node = &draft.nodes[position];
    let inputs: Vec<Input> = node
        .inputs
        .iter()
        .map(|&link| &draft.nodes[draft.links[link].from])
        .map(|producer| Input { schema: producer.output.clone(), mode: producer.mode })
        .collect();
    let path = format!("{}.operator", node.path);
    let mut operator = node.operator.clone();
    let output = output_of(&mut operator, &inputs, context, &path)?;
    let schema = match &operator.output_schema {
        Some(declared) if !declared.fields.is_empty() => {
            let path = format!("{path}.output_schema");
            let declared = columns::schema(declared, &path)?;
            check_fits(&declared, &output.schema, "the operator's output", &path)?;
            declared
        }
        _ => output.schema,
    };
    let node = &mut draft.nodes[position];
    node.operator = operator;
    node.output = schema;
    node.mode = output.mode;
    Ok(())
}

fn output_of(
    operator: &mut v1::Operator,
    inputs: &[Input],
    context: &Context<'_>,
    path: &str,
) -> Result<Output, GraphError> {
    let given = match ChangelogMode::try_from(operator.changelog) {
        Ok(mode) => mode,
        Err(_) => return Err(GraphError::at(format!("{path}.changelog"), "unknown value")),
    };
    let declared = operator.output_schema.clone();
    let Some(kind) = operator.kind.as_mut() else {
        return Err(GraphError::at(path, "the operator has no kind"));
    };
    match kind {
        Kind::Source(source) => self::source(source, given, &format!("{path}.source")),
        Kind::Calc(calc) => self::calc(calc, &inputs[0], context, &format!("{path}.calc")),
        Kind::Watermark(watermark) => self::watermark(watermark, &inputs[0], context, &format!("{path}.watermark")),
        Kind::GroupAggregate(aggregate) => {
            aggregates::group(aggregate, &inputs[0], context, &format!("{path}.group_aggregate"))
        }
        Kind::WindowAggregate(aggregate) => {
            aggregates::window(aggregate, &inputs[0], context, &format!("{path}.window_aggregate"))
        }
        Kind::WindowTableFunction(function) => {
            aggregates::window_table_function(function, &inputs[0], &format!("{path}.window_table_function"))
        }
        Kind::Sink(sink) => self::sink(sink, &inputs[0], &format!("{path}.sink")),
        Kind::Custom(custom) => self::custom(custom, given, declared.as_ref(), inputs, path),
        Kind::Union(_) => union(inputs, &format!("{path}.union")),
    }
}

fn source(source: &mut v1::Source, given: ChangelogMode, path: &str) -> Result<Output, GraphError> {
    check_connector(&source.options, path)?;
    let physical = columns::schema(&source.schema.clone().unwrap_or_default(), &format!("{path}.schema"))?;
    if physical.is_empty() {
        return Err(GraphError::at(format!("{path}.schema"), "a source needs the columns of its table"));
    }
    let schema = if source.projected {
        for (i, &index) in source.projection.iter().enumerate() {
            columns::in_range(index, &physical, &format!("{path}.projection[{i}]"))?;
        }
        physical.project(&source.projection.iter().map(|&i| i as usize).collect::<Vec<_>>())
    } else {
        physical
    };
    let mode = if given == ChangelogMode::Unspecified { ChangelogMode::Append } else { given };
    Ok(Output { schema, mode })
}

fn check_connector(options: &Options, path: &str) -> Result<(), GraphError> {
    if options.get("connector").is_none_or(String::is_empty) {
        return Err(GraphError::at(format!("{path}.options"), "the option 'connector' is missing"));
    }
    Ok(())
}

fn calc(calc: &mut v1::Calc, input: &Input, context: &Context<'_>, path: &str) -> Result<Output, GraphError> {
    if let Some(filter) = &calc.filter {
        let path = format!("{path}.filter");
        let resolved = expressions::resolve(filter, &input.schema, context, &path)?;
        if !matches!(resolved.data_type.logical, LogicalType::Boolean) {
            let reason = format!("a filter must be BOOLEAN, this is {}", resolved.data_type);
            return Err(GraphError::at(path, reason));
        }
        calc.filter = Some(resolved.to_proto());
    }
    if calc.projections.is_empty() {
        return Ok(Output { schema: input.schema.clone(), mode: input.mode });
    }
    let mut fields = Vec::with_capacity(calc.projections.len());
    for (i, projection) in calc.projections.iter_mut().enumerate() {
        let path = format!("{path}.projections[{i}].expr");
        let unset = v1::Expr::default();
        let resolved = expressions::resolve(projection.expr.as_ref().unwrap_or(&unset), &input.schema, context, &path)?;
        let field = projected_field(&projection.name, i, &resolved, &input.schema);
        projection.name.clone_from(&field.name);
        projection.expr = Some(resolved.to_proto());
        fields.push(field);
    }
    Ok(Output { schema: RowSchema::new(fields), mode: input.mode })
}

/// A bare column keeps its name, if none is given, and its time attribute.
fn projected_field(name: &str, position: usize, expr: &Expr, input: &RowSchema) -> RowField {
    let column = expr.as_column().map(|index| &input.fields[index]);
    let name = match (name, column) {
        ("", Some(column)) => column.name.clone(),
        ("", None) => format!("EXPR${position}"),
        (name, _) => name.to_owned(),
    };
    let time = column.map_or(TimeAttribute::None, |c| c.time);
    RowField { name, data_type: expr.data_type.clone(), time }
}

fn watermark(
    assigner: &mut v1::WatermarkAssigner,
    input: &Input,
    context: &Context<'_>,
    path: &str,
) -> Result<Output, GraphError> {
    let column = if assigner.rowtime_name.is_empty() {
        columns::in_range(assigner.rowtime_column, &input.schema, &format!("{path}.rowtime_column"))?
    } else {
        columns::by_name(&assigner.rowtime_name, &input.schema, &format!("{path}.rowtime_name"))?
    };
    assigner.rowtime_column = column;
    assigner.rowtime_name.clear();
    let column = column as usize;
    let mut schema = input.schema.clone();
    let rowtime = &schema.fields[column];
    if !is_time(&rowtime.data_type.logical) {
        let reason = format!(
            "the rowtime column '{}' must be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p up to 3, it is {}",
            rowtime.name, rowtime.data_type.logical
        );
        return Err(GraphError::at(format!("{path}.rowtime_column"), reason));
    }
    let path = format!("{path}.expr");
    let unset = v1::Expr::default();
    let resolved = expressions::resolve(assigner.expr.as_ref().unwrap_or(&unset), &input.schema, context, &path)?;
    if !is_time(&resolved.data_type.logical) {
        let reason = format!(
            "a watermark must be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p up to 3, this is {}",
            resolved.data_type.logical
        );
        return Err(GraphError::at(path, reason));
    }
    assigner.expr = Some(resolved.to_proto());
    for (i, field) in schema.fields.iter_mut().enumerate() {
        match (i == column, field.time) {
            (true, _) => field.time = TimeAttribute::Rowtime,
            (false, TimeAttribute::Rowtime) => field.time = TimeAttribute::None,
            _ => {}
        }
    }
    Ok(Output { schema, mode: input.mode })
}

/// Types of event time.
fn is_time(ty: &LogicalType) -> bool {
    matches!(ty, LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3))
}

fn sink(sink: &mut v1::Sink, input: &Input, path: &str) -> Result<Output, GraphError> {
    check_connector(&sink.options, path)?;
    let schema = match &sink.schema {
        Some(declared) if !declared.fields.is_empty() => {
            let path = format!("{path}.schema");
            let declared = columns::schema(declared, &path)?;
            check_fits(&declared, &input.schema, "the sink's input", &path)?;
            declared
        }
        _ => input.schema.clone(),
    };
    for (field, positions) in [("primary_key", &sink.primary_key), ("partition_by", &sink.partition_by)] {
        for (i, &index) in positions.iter().enumerate() {
            columns::in_range(index, &schema, &format!("{path}.{field}[{i}]"))?;
        }
    }
    sink.schema = Some(schema.to_proto());
    Ok(Output { schema, mode: input.mode })
}

fn custom(
    custom: &v1::Custom,
    given: ChangelogMode,
    declared: Option<&v1::Schema>,
    inputs: &[Input],
    path: &str,
) -> Result<Output, GraphError> {
    if custom.factory.is_empty() {
        return Err(GraphError::at(format!("{path}.custom.factory"), "the name of the registered operator is missing"));
    }
    let declared = declared.filter(|s| !s.fields.is_empty()).ok_or_else(|| {
        GraphError::at(format!("{path}.output_schema"), "a custom operator must declare its output schema")
    })?;
    let schema = columns::schema(declared, &format!("{path}.output_schema"))?;
    let append = inputs.iter().all(|i| i.mode == ChangelogMode::Append);
    let mode = match given {
        ChangelogMode::Unspecified if append => ChangelogMode::Append,
        ChangelogMode::Unspecified => ChangelogMode::Retract,
        given => given,
    };
    Ok(Output { schema, mode })
}

fn union(inputs: &[Input], path: &str) -> Result<Output, GraphError> {
    let mut schema = inputs[0].schema.clone();
    for (port, input) in inputs.iter().enumerate().skip(1) {
        check_fits(&schema, &input.schema, &format!("the input of port {port}"), path)?;
        for (field, other) in schema.fields.iter_mut().zip(&input.schema.fields) {
            field.data_type.nullable |= other.data_type.nullable;
            if field.time != other.time {
                field.time = TimeAttribute::None;
            }
        }
    }
    // Upserts are understood by their key, whatever comes beside them; so the weakest mode counts.
    let mode = [ChangelogMode::Upsert, ChangelogMode::Retract]
        .into_iter()
        .find(|mode| inputs.iter().any(|i| i.mode == *mode))
        .unwrap_or(ChangelogMode::Append);
    Ok(Output { schema, mode })
}

/// Checks that rows of `actual` can be taken for rows of `declared`: as many columns, of equal
/// physical types. Names and nullability are the declaration's.
pub(super) fn check_fits(declared: &RowSchema, actual: &RowSchema, what: &str, path: &str) -> Result<(), GraphError> {
    if declared.len() != actual.len() {
        let reason = format!("{} columns are declared, {what} has {}", declared.len(), actual.len());
        return Err(GraphError::at(path, reason));
    }
    for (i, (d, a)) in declared.fields.iter().zip(&actual.fields).enumerate() {
        if d.data_type.logical.to_arrow() != a.data_type.logical.to_arrow() {
            let reason =
                format!("'{}' is declared as {}, {what} is {}", d.name, d.data_type.logical, a.data_type.logical);
            return Err(GraphError::at(format!("{path}.fields[{i}]"), reason));
        }
    }
    Ok(())
}
