//! The logical plan: nodes in an arena, producers before consumers.
//!
//! Every node knows its schema, the key by which its changes may be interpreted, and which of its
//! columns are bounds of a window; all three are derived where a node is made.

use hurtig_graph::connector::{Options, SinkInfo, SourceInfo};
use hurtig_graph::{DataType, Expr, LogicalType, RowField, RowSchema, TimeAttribute};

use super::window::{Window, WindowColumns};
use crate::error::SqlError;

/// Position of a node in its [`Plan`].
pub(crate) type NodeId = usize;

/// A plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub kind: NodeKind,
    pub inputs: Vec<NodeId>,
    pub schema: RowSchema,
    /// At most one row has the same values of these columns at any time.
    pub key: Option<Vec<usize>>,
    /// Columns that bound a window.
    pub window: Option<WindowColumns>,
}

#[derive(Debug, Clone)]
pub(crate) enum NodeKind {
    Source(Source),
    /// Filters, then projects.
    Calc(Calc),
    Watermark(WatermarkAssigner),
    GroupAggregate(GroupAggregate),
    WindowAggregate(WindowAggregate),
    WindowTable(Window),
    Union,
    Sink(Sink),
}

#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// For people.
    pub table: String,
    pub options: Options,
    /// As stored outside.
    pub physical: RowSchema,
    /// Positions in `physical` of the columns produced.
    pub projection: Vec<usize>,
    pub info: SourceInfo,
    /// Positions in `physical`.
    pub primary_key: Option<Vec<usize>>,
    /// One subtask, to keep the order of rows.
    pub single: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Calc {
    pub filter: Option<Expr>,
    /// `None`: all input columns.
    pub projections: Option<Vec<Projection>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Projection {
    pub name: String,
    pub expr: Expr,
}

#[derive(Debug, Clone)]
pub(crate) struct WatermarkAssigner {
    pub rowtime: usize,
    pub expr: Expr,
    pub idle_timeout_ms: u64,
}

/// A call of an aggregate function over columns of the input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AggregateCall {
    pub function: String,
    pub arguments: Vec<usize>,
    pub distinct: bool,
    pub filter: Option<usize>,
    pub parameters: Vec<String>,
    pub name: String,
    pub result: DataType,
}

impl AggregateCall {
    /// The columns that the call reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.arguments.iter().copied().chain(self.filter)
    }

    /// The same call with other columns.
    pub(crate) fn map_columns(&self, map: impl Fn(usize) -> usize) -> AggregateCall {
        AggregateCall {
            arguments: self.arguments.iter().map(|&a| map(a)).collect(),
            filter: self.filter.map(&map),
            ..self.clone()
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct GroupAggregate {
    pub keys: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    pub state_ttl_ms: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct WindowAggregate {
    pub window: Window,
    pub keys: Vec<usize>,
    pub calls: Vec<AggregateCall>,
}

#[derive(Debug, Clone)]
pub(crate) struct Sink {
    /// For people, and the prefix of operator uids.
    pub table: String,
    pub options: Options,
    pub schema: RowSchema,
    pub primary_key: Vec<usize>,
    pub partition_by: Vec<usize>,
    pub info: SinkInfo,
}

/// The columns that a window table function and a window aggregate append.
pub(crate) const WINDOW_START: &str = "window_start";
pub(crate) const WINDOW_END: &str = "window_end";
pub(crate) const WINDOW_TIME: &str = "window_time";

/// Columns with the bounds of windows over a time attribute of type `time`.
pub(crate) fn window_fields(time: &RowField) -> Vec<RowField> {
    let bound = LogicalType::Timestamp(3).not_null();
    let time_type = match time.data_type.logical {
        LogicalType::TimestampLtz(_) => LogicalType::TimestampLtz(3),
        _ => LogicalType::Timestamp(3),
    };
    vec![
        RowField::new(WINDOW_START, bound.clone()),
        RowField::new(WINDOW_END, bound),
        RowField { name: WINDOW_TIME.to_owned(), data_type: time_type.not_null(), time: time.time },
    ]
}

impl Plan {
    pub(crate) fn schema(&self, node: NodeId) -> &RowSchema {
        &self.nodes[node].schema
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds a node of `kind`, deriving schema, key and window columns from its inputs.
    pub(crate) fn add(&mut self, kind: NodeKind, inputs: Vec<NodeId>) -> Result<NodeId, SqlError> {
        let inputs_of_kind = match kind {
            NodeKind::Source(_) => inputs.is_empty(),
            NodeKind::Union => inputs.len() > 1,
            _ => inputs.len() == 1,
        };
        if !inputs_of_kind {
            return Err(SqlError::Internal(format!("a plan node has {} inputs: {kind:?}", inputs.len())));
        }
        let input = inputs.first().map(|&i| &self.nodes[i]);
        let (schema, key, window) = match (&kind, input) {
            (NodeKind::Source(source), _) => (source.schema(), source.key(), None),
            (NodeKind::Calc(calc), Some(input)) => calc.derive(input),
            (NodeKind::Watermark(watermark), Some(input)) => {
                (watermark.schema(input), input.key.clone(), input.window.clone())
            }
            (NodeKind::GroupAggregate(aggregate), Some(input)) => aggregate.derive(input),
            (NodeKind::WindowAggregate(aggregate), Some(input)) => aggregate.derive(input),
            (NodeKind::WindowTable(window), Some(input)) => derive_window_table(window, input),
            (NodeKind::Sink(sink), Some(input)) => (sink.schema.clone(), input.key.clone(), None),
            (NodeKind::Union, _) => (self.union_schema(&inputs), None, self.union_window(&inputs)),
            (_, None) => return Err(SqlError::Internal("a plan node lacks its input".to_owned())),
        };
        Ok(self.push(Node { kind, inputs, schema, key, window }))
    }

    pub(crate) fn calc(
        &mut self,
        input: NodeId,
        filter: Option<Expr>,
        projections: Option<Vec<Projection>>,
    ) -> Result<NodeId, SqlError> {
        if filter.is_none() && projections.is_none() {
            return Ok(input);
        }
        self.add(NodeKind::Calc(Calc { filter, projections }), vec![input])
    }

    /// Names of the first input; nullable where any is; time attributes where all agree.
    fn union_schema(&self, inputs: &[NodeId]) -> RowSchema {
        let mut schema = self.nodes[inputs[0]].schema.clone();
        for &other in &inputs[1..] {
            for (field, other) in schema.fields.iter_mut().zip(&self.nodes[other].schema.fields) {
                field.data_type.nullable |= other.data_type.nullable;
                if field.time != other.time {
                    field.time = TimeAttribute::None;
                }
            }
        }
        schema
    }

    fn union_window(&self, inputs: &[NodeId]) -> Option<WindowColumns> {
        let first = self.nodes[inputs[0]].window.clone()?;
        inputs.iter().all(|&i| self.nodes[i].window.as_ref() == Some(&first)).then_some(first)
    }

    /// All projections that pass `input` through unchanged.
    pub(crate) fn identity(&self, input: NodeId) -> Vec<Projection> {
        let schema = self.schema(input);
        (0..schema.len())
            .map(|i| Projection { name: schema.fields[i].name.clone(), expr: Expr::column_of(schema, i) })
            .collect()
    }

    /// The table that a node reads, following single inputs down, for messages.
    pub(crate) fn label(&self, node: NodeId) -> String {
        match &self.nodes[node].kind {
            NodeKind::Source(source) => format!("Source({})", source.table),
            kind => kind.name().to_owned(),
        }
    }
}

impl NodeKind {
    /// The kind's name in plans.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            NodeKind::Source(_) => "Source",
            NodeKind::Calc(_) => "Calc",
            NodeKind::Watermark(_) => "WatermarkAssigner",
            NodeKind::GroupAggregate(_) => "GroupAggregate",
            NodeKind::WindowAggregate(_) => "WindowAggregate",
            NodeKind::WindowTable(_) => "WindowTableFunction",
            NodeKind::Union => "Union",
            NodeKind::Sink(_) => "Sink",
        }
    }
}

impl Source {
    fn schema(&self) -> RowSchema {
        self.physical.project(&self.projection)
    }

    fn key(&self) -> Option<Vec<usize>> {
        let produced = |column: &usize| self.projection.iter().position(|p| p == column);
        self.primary_key.as_ref()?.iter().map(produced).collect()
    }
}

type Derived = (RowSchema, Option<Vec<usize>>, Option<WindowColumns>);

impl Calc {
    fn derive(&self, input: &Node) -> Derived {
        let Some(projections) = &self.projections else {
            return (input.schema.clone(), input.key.clone(), input.window.clone());
        };
        let field = |p: &Projection| RowField {
            name: p.name.clone(),
            data_type: p.expr.data_type.clone(),
            time: p.expr.as_column().map_or(TimeAttribute::None, |i| input.schema.fields[i].time),
        };
        let position = |column: &usize| projections.iter().position(|p| p.expr.as_column() == Some(*column));
        let schema = RowSchema::new(projections.iter().map(field).collect());
        let key = input.key.as_ref().and_then(|key| key.iter().map(position).collect());
        let window = input.window.as_ref().and_then(|w| {
            w.map(|column| {
                (0..projections.len()).filter(|&i| projections[i].expr.as_column() == Some(column)).collect()
            })
        });
        (schema, key, window)
    }
}

impl WatermarkAssigner {
    fn schema(&self, input: &Node) -> RowSchema {
        let mut schema = input.schema.clone();
        schema.fields[self.rowtime].time = TimeAttribute::Rowtime;
        schema
    }
}

fn key_and_call_fields(keys: &[usize], calls: &[AggregateCall], input: &Node) -> Vec<RowField> {
    let keys = keys.iter().map(|&k| RowField { time: TimeAttribute::None, ..input.schema.fields[k].clone() });
    keys.chain(calls.iter().map(|c| RowField::new(&c.name, c.result.clone()))).collect()
}

impl GroupAggregate {
    fn derive(&self, input: &Node) -> Derived {
        let fields = key_and_call_fields(&self.keys, &self.calls, input);
        (RowSchema::new(fields), Some((0..self.keys.len()).collect()), None)
    }
}

impl WindowAggregate {
    fn derive(&self, input: &Node) -> Derived {
        let mut fields = key_and_call_fields(&self.keys, &self.calls, input);
        let at = fields.len();
        fields.extend(window_fields(&input.schema.fields[self.window.time_column]));
        let key = (0..self.keys.len()).chain([at, at + 1]).collect();
        (RowSchema::new(fields), Some(key), Some(WindowColumns::at(self.window.clone(), at)))
    }
}

fn derive_window_table(window: &Window, input: &Node) -> Derived {
    let mut schema = input.schema.clone();
    let at = schema.len();
    let appended = window_fields(&schema.fields[window.time_column]);
    // The rows' own time attribute is one no longer: the window's takes its place.
    schema.fields[window.time_column].time = TimeAttribute::None;
    schema.fields.extend(appended);
    let key = match window.overlaps() {
        false => input.key.clone(),
        true => input.key.clone().map(|key| key.into_iter().chain([at, at + 1]).collect()),
    };
    (schema, key, Some(WindowColumns::at(window.clone(), at)))
}
