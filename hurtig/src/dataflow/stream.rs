//! Streams: what a transformation gives and the next one takes.

use std::time::Duration;

use hurtig_engine::Batch;
use hurtig_proto::v1;
use hurtig_proto::v1::operator::Kind;
use hurtig_proto::v1::partitioner::Kind as Partitioning;

use super::closures::{BatchError, CLOSURE_FACTORY, map_batches_factory};
use super::{Dataflow, Table};

/// The output of a transformation.
#[derive(Clone)]
pub struct Stream {
    flow: Dataflow,
    vertex: String,
    /// How rows get to the next transformation; none: forward, or as that one needs it.
    partitioning: Option<Partitioning>,
}

fn sql(text: impl Into<String>) -> Option<v1::Expr> {
    Some(v1::Expr { kind: Some(v1::expr::Kind::Sql(text.into())), r#type: String::new() })
}

impl Stream {
    pub(super) fn new(flow: &Dataflow, name: &str, kind: Kind) -> Stream {
        let vertex = flow.add(name, kind, None);
        Stream { flow: flow.clone(), vertex, partitioning: None }
    }

    /// A new transformation of this stream's rows.
    fn then(&self, name: &str, kind: Kind, output_schema: Option<v1::Schema>) -> Stream {
        let vertex = self.flow.add(name, kind, output_schema);
        self.connect_to(&vertex);
        Stream { flow: self.flow.clone(), vertex, partitioning: None }
    }

    fn connect_to(&self, vertex: &str) {
        let partitioner = self.partitioning.clone().map(|kind| v1::Partitioner { kind: Some(kind) });
        self.flow.connect(v1::Edge {
            from: self.vertex.clone(),
            to: vertex.to_owned(),
            partitioner,
            ..Default::default()
        });
    }

    /// Keeps the rows for which the SQL condition is TRUE.
    #[must_use]
    pub fn filter(&self, condition: impl Into<String>) -> Stream {
        self.then("calc", Kind::Calc(v1::Calc { filter: sql(condition), projections: Vec::new() }), None)
    }

    /// Computes columns: names with SQL expressions.
    #[must_use]
    pub fn map<N, E>(&self, columns: impl IntoIterator<Item = (N, E)>) -> Stream
    where
        N: Into<String>,
        E: Into<String>,
    {
        let named = |(name, expr): (N, E)| v1::NamedExpr { name: name.into(), expr: sql(expr) };
        let projections = columns.into_iter().map(named).collect();
        self.then("calc", Kind::Calc(v1::Calc { filter: None, projections }), None)
    }

    /// Makes `column` event time, with a watermark by an SQL expression over the row, for example
    /// `` `at` - INTERVAL '5' SECOND ``.
    #[must_use]
    pub fn watermark(&self, column: impl Into<String>, watermark: impl Into<String>) -> Stream {
        let assigner =
            v1::WatermarkAssigner { rowtime_name: column.into(), expr: sql(watermark), ..Default::default() };
        self.then("watermark", Kind::Watermark(assigner), None)
    }

    /// Transforms whole batches by a closure. `output` lists the columns of the batches that it
    /// gives, with their types. A batch with updates (not only inserts) must keep its rows.
    ///
    /// Runs in an embedded cluster only; for a remote one register an operator and [`apply`] it.
    ///
    /// [`apply`]: Stream::apply
    #[must_use]
    pub fn map_batches<F>(&self, output: Table, map: F) -> Stream
    where
        F: Fn(Batch) -> Result<Batch, BatchError> + Send + Sync + 'static,
    {
        let (_, schema) = output.into_parts();
        let key = self.flow.add_closure(map_batches_factory(map));
        let custom = v1::Custom { factory: CLOSURE_FACTORY.to_owned(), configuration: key.into_bytes() };
        self.then("map", Kind::Custom(custom), Some(schema))
    }

    /// Transforms rows by an operator registered with every TaskManager under `operator`. `output`
    /// lists the columns that it emits.
    #[must_use]
    pub fn apply(&self, operator: impl Into<String>, configuration: impl Into<Vec<u8>>, output: Table) -> Stream {
        let (_, schema) = output.into_parts();
        let custom = v1::Custom { factory: operator.into(), configuration: configuration.into() };
        self.then("custom", Kind::Custom(custom), Some(schema))
    }

    /// All rows of this stream and the others, whose columns must have equal types.
    #[must_use]
    pub fn union<'a>(&self, others: impl IntoIterator<Item = &'a Stream>) -> Stream {
        let union = self.then("union", Kind::Union(v1::Union {}), None);
        for other in others {
            other.connect_to(&union.vertex);
        }
        union
    }

    /// Distributes rows evenly over the subtasks of the next transformation.
    #[must_use]
    pub fn rebalance(&self) -> Stream {
        Stream { partitioning: Some(Partitioning::Rebalance(v1::Rebalance {})), ..self.clone() }
    }

    /// Sends every row to every subtask of the next transformation.
    #[must_use]
    pub fn broadcast(&self) -> Stream {
        Stream { partitioning: Some(Partitioning::Broadcast(v1::Broadcast {})), ..self.clone() }
    }

    /// Brings rows with equal values in `columns` together.
    #[must_use]
    pub fn key_by<N: Into<String>>(&self, columns: impl IntoIterator<Item = N>) -> KeyedStream {
        KeyedStream { stream: self.clone(), keys: columns.into_iter().map(Into::into).collect() }
    }

    /// Writes the rows to a table.
    pub fn sink(&self, table: Table) -> Stream {
        let (options, schema) = table.into_parts();
        let schema = (!schema.fields.is_empty()).then_some(schema);
        self.then("sink", Kind::Sink(v1::Sink { options, schema, ..Default::default() }), None)
    }

    /// Sends the rows to the client that runs the job.
    pub fn collect(&self) -> Stream {
        self.sink(Table::new("collect"))
    }

    /// Sets the identity of the transformation's state over changes of the job.
    #[must_use]
    pub fn uid(self, uid: impl Into<String>) -> Stream {
        self.change(|operator| operator.uid = uid.into())
    }

    /// Names the transformation in plans, logs and metrics.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Stream {
        self.change(|operator| operator.name = name.into())
    }

    /// Sets the parallelism of the transformation.
    #[must_use]
    pub fn parallelism(self, parallelism: u32) -> Stream {
        self.flow.change(&self.vertex, |vertex| vertex.parallelism = parallelism);
        self
    }

    fn change(self, change: impl FnOnce(&mut v1::Operator)) -> Stream {
        self.flow.change(&self.vertex, |vertex| change(vertex.operator.get_or_insert_default()));
        self
    }
}

/// Rows brought together by a key.
#[derive(Clone)]
pub struct KeyedStream {
    stream: Stream,
    keys: Vec<String>,
}

impl KeyedStream {
    /// Aggregates all rows of a key. The result is updated with every batch: the key columns, then
    /// one column for each aggregate.
    #[must_use]
    pub fn aggregate(&self, aggregates: impl IntoIterator<Item = Aggregate>) -> Stream {
        let aggregate = v1::GroupAggregate {
            key_names: self.keys.clone(),
            aggregates: aggregates.into_iter().map(|a| a.call).collect(),
            emit_update_before: true,
            ..Default::default()
        };
        self.stream.then("aggregate", Kind::GroupAggregate(aggregate), None)
    }

    /// Windows of fixed size over the event-time column `time`.
    #[must_use]
    pub fn tumble(&self, time: impl Into<String>, size: Duration) -> WindowedStream {
        self.window(v1::WindowKind::Tumble, time.into(), size, Duration::ZERO)
    }

    /// Windows of fixed size that begin every `slide`.
    #[must_use]
    pub fn hop(&self, time: impl Into<String>, slide: Duration, size: Duration) -> WindowedStream {
        self.window(v1::WindowKind::Hop, time.into(), size, slide)
    }

    /// Windows that grow by `step` up to `size`.
    #[must_use]
    pub fn cumulate(&self, time: impl Into<String>, step: Duration, size: Duration) -> WindowedStream {
        self.window(v1::WindowKind::Cumulate, time.into(), size, step)
    }

    fn window(&self, kind: v1::WindowKind, time_name: String, size: Duration, slide: Duration) -> WindowedStream {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let spec = v1::WindowSpec {
            kind: kind as i32,
            time_name,
            size_ms: ms(size),
            slide_ms: ms(slide),
            ..Default::default()
        };
        WindowedStream { keyed: self.clone(), spec }
    }
}

/// Rows of a key in windows of event time.
#[derive(Clone)]
pub struct WindowedStream {
    keyed: KeyedStream,
    spec: v1::WindowSpec,
}

impl WindowedStream {
    /// Aggregates the rows of each key and window, once the watermark has passed the window's end:
    /// the key columns, one column for each aggregate, then `window_start`, `window_end` and
    /// `window_time`.
    #[must_use]
    pub fn aggregate(&self, aggregates: impl IntoIterator<Item = Aggregate>) -> Stream {
        let aggregate = v1::WindowAggregate {
            window: Some(self.spec.clone()),
            key_names: self.keyed.keys.clone(),
            aggregates: aggregates.into_iter().map(|a| a.call).collect(),
            ..Default::default()
        };
        self.keyed.stream.then("window", Kind::WindowAggregate(aggregate), None)
    }
}

/// An aggregate function over columns.
#[derive(Debug, Clone)]
pub struct Aggregate {
    call: v1::AggregateCall,
}

impl Aggregate {
    /// Any aggregate function by its SQL name.
    pub fn of<N: Into<String>>(function: impl Into<String>, columns: impl IntoIterator<Item = N>) -> Aggregate {
        let argument_names: Vec<String> = columns.into_iter().map(Into::into).collect();
        let function = function.into();
        let name = match argument_names.first() {
            Some(column) => format!("{}_{column}", function.to_lowercase()),
            None => function.to_lowercase(),
        };
        Aggregate { call: v1::AggregateCall { function, argument_names, name, ..Default::default() } }
    }

    /// COUNT(*)
    pub fn count() -> Aggregate {
        Aggregate::of("COUNT", Vec::<String>::new())
    }

    /// SUM
    pub fn sum(column: impl Into<String>) -> Aggregate {
        Aggregate::of("SUM", [column.into()])
    }

    /// AVG
    pub fn avg(column: impl Into<String>) -> Aggregate {
        Aggregate::of("AVG", [column.into()])
    }

    /// MIN
    pub fn min(column: impl Into<String>) -> Aggregate {
        Aggregate::of("MIN", [column.into()])
    }

    /// MAX
    pub fn max(column: impl Into<String>) -> Aggregate {
        Aggregate::of("MAX", [column.into()])
    }

    /// Counts each distinct value once.
    #[must_use]
    pub fn distinct(mut self) -> Aggregate {
        self.call.distinct = true;
        self
    }

    /// Names the result column; without it `<function>_<column>`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Aggregate {
        self.call.name = name.into();
        self
    }
}
