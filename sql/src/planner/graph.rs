//! The optimised plan to a job graph: vertices, edges, parallelism, operator identities, and the
//! split of aggregations into a part before and a part after the shuffle.

use std::collections::BTreeMap;

use hurtig_graph::aggregates::local_output;
use hurtig_graph::config::keys;
use hurtig_graph::{ExprKind, RowSchema};
use hurtig_proto::v1;
use v1::operator::Kind;

use super::NodeId;
use super::changelog::ChangelogMode;
use super::explain::describe;
use super::node::{AggregateCall, Node, NodeKind, Plan, Source};
use crate::error::SqlError;
use crate::session::SessionSettings;

/// The job graph of an optimised plan with the change modes of its nodes.
pub(crate) fn job_graph(
    plan: &Plan,
    sinks: &[NodeId],
    modes: &[ChangelogMode],
    settings: &SessionSettings,
    name: String,
) -> Result<v1::JobGraph, SqlError> {
    let mut builder = Builder {
        plan,
        modes,
        default_parallelism: default_parallelism(settings)?,
        split_aggregates: split_aggregates(settings)?,
        reads_watermark: reads_watermark(plan),
        uids: operator_uids(plan, sinks),
        ordered: ordered_outputs(plan, modes),
        ends: Vec::with_capacity(plan.nodes.len()),
        graph: v1::JobGraph {
            name: settings.get("pipeline.name").map_or(name, str::to_owned),
            configuration: settings.configuration().as_map().clone(),
            ..Default::default()
        },
    };
    for id in 0..plan.nodes.len() {
        builder.add(id)?;
    }
    Ok(builder.graph)
}

/// The parallelism that `SET` asks for; 0: the cluster's default.
fn default_parallelism(settings: &SessionSettings) -> Result<u32, SqlError> {
    for key in ["table.exec.resource.default-parallelism", "parallelism.default"] {
        let Some(text) = settings.get(key) else { continue };
        match text.trim().parse::<i64>() {
            Ok(-1) => {}
            Ok(n) if (1..=32_768).contains(&n) => return Ok(n as u32),
            _ => return Err(SqlError::Config(format!("{key}: '{text}' is not a parallelism: write 1 to 32768"))),
        }
    }
    Ok(0)
}

/// Whether aggregations may be split into a part before and a part after the shuffle.
fn split_aggregates(settings: &SessionSettings) -> Result<bool, SqlError> {
    let strategy =
        settings.configuration().choice(&keys::AGG_PHASE_STRATEGY).map_err(|e| SqlError::Config(e.to_string()))?;
    Ok(strategy != Some("ONE_PHASE"))
}

/// Whether any calculation calls CURRENT_WATERMARK.
fn reads_watermark(plan: &Plan) -> bool {
    let mut reads = false;
    for node in &plan.nodes {
        let NodeKind::Calc(calc) = &node.kind else { continue };
        let projected = calc.projections.iter().flatten().map(|p| &p.expr);
        projected.chain(&calc.filter).for_each(|expr| {
            expr.visit(&mut |e| {
                reads |= matches!(&e.kind, ExprKind::Call { function, .. } if function == "CURRENT_WATERMARK");
            });
        });
    }
    reads
}

/// Where rows of a node come from.
#[derive(Debug, Clone)]
struct End {
    vertex: String,
    parallelism: u32,
}

struct Builder<'a> {
    plan: &'a Plan,
    modes: &'a [ChangelogMode],
    default_parallelism: u32,
    /// Aggregations work before the shuffle already, where they can.
    split_aggregates: bool,
    /// An expression of the job reads the current watermark.
    reads_watermark: bool,
    uids: Vec<String>,
    /// Nodes whose consumers depend on the order of changes.
    ordered: Vec<bool>,
    ends: Vec<End>,
    graph: v1::JobGraph,
}

impl Builder<'_> {
    fn add(&mut self, id: NodeId) -> Result<(), SqlError> {
        let plan = self.plan;
        let node = &plan.nodes[id];
        let parallelism = self.parallelism(node)?;
        if let Some(end) = self.two_phases(id, parallelism)? {
            self.ends.push(end);
            return Ok(());
        }
        let kind = self.operator(node)?;
        let vertex = self.vertex(id, self.uids[id].clone(), kind, node.schema.clone(), self.modes[id], parallelism);
        for (port, &input) in node.inputs.iter().enumerate() {
            let partitioner = self.partitioner(node, input, parallelism);
            self.edge(&self.ends[input].vertex.clone(), &vertex, port, partitioner, self.ordered[input]);
        }
        self.ends.push(End { vertex, parallelism });
        Ok(())
    }

    fn parallelism(&self, node: &Node) -> Result<u32, SqlError> {
        let inherited = node.inputs.first().map(|&input| self.ends[input].parallelism);
        Ok(match &node.kind {
            NodeKind::Source(source) if source.single => 1,
            NodeKind::Source(source) => {
                parallelism_option(&source.options, "scan.parallelism")?.unwrap_or(self.default_parallelism)
            }
            NodeKind::GroupAggregate(aggregate) if aggregate.keys.is_empty() => 1,
            NodeKind::WindowAggregate(aggregate) if aggregate.keys.is_empty() => 1,
            NodeKind::GroupAggregate(_) | NodeKind::WindowAggregate(_) => self.default_parallelism,
            NodeKind::Union => {
                let same = node.inputs.iter().all(|&i| Some(self.ends[i].parallelism) == inherited);
                let updating = node.inputs.iter().any(|&i| self.modes[i] != ChangelogMode::Append);
                match inherited {
                    Some(parallelism) if same => parallelism,
                    // Changes of one row must not overtake each other.
                    _ if updating => 1,
                    _ => self.default_parallelism,
                }
            }
            NodeKind::Sink(sink) => {
                parallelism_option(&sink.options, "sink.parallelism")?.or(inherited).unwrap_or(self.default_parallelism)
            }
            NodeKind::Calc(_) | NodeKind::Watermark(_) | NodeKind::WindowTable(_) => {
                inherited.unwrap_or(self.default_parallelism)
            }
        })
    }

    fn partitioner(&self, node: &Node, input: NodeId, parallelism: u32) -> v1::Partitioner {
        use v1::partitioner::Kind as P;
        let kind = match &node.kind {
            NodeKind::GroupAggregate(aggregate) => by_key(&aggregate.keys),
            NodeKind::WindowAggregate(aggregate) => by_key(&aggregate.keys),
            _ if parallelism == self.ends[input].parallelism => P::Forward(v1::Forward {}),
            NodeKind::Union if parallelism == 1 => P::Global(v1::Global {}),
            NodeKind::Sink(sink) if self.modes[input] != ChangelogMode::Append => {
                let key = if sink.primary_key.is_empty() { self.plan.nodes[input].key.clone() } else { None };
                by_key(&key.unwrap_or_else(|| sink.primary_key.clone()))
            }
            _ => P::Rebalance(v1::Rebalance {}),
        };
        v1::Partitioner { kind: Some(kind) }
    }

    fn operator(&self, node: &Node) -> Result<Kind, SqlError> {
        let input_mode = node.inputs.first().map_or(ChangelogMode::Append, |&input| self.modes[input]);
        Ok(match &node.kind {
            NodeKind::Source(source) => Kind::Source(source_operator(source)),
            NodeKind::Calc(calc) => Kind::Calc(v1::Calc {
                filter: calc.filter.as_ref().map(hurtig_graph::Expr::to_proto),
                projections: calc
                    .projections
                    .iter()
                    .flatten()
                    .map(|p| v1::NamedExpr { name: p.name.clone(), expr: Some(p.expr.to_proto()) })
                    .collect(),
            }),
            NodeKind::Watermark(watermark) => Kind::Watermark(v1::WatermarkAssigner {
                rowtime_column: watermark.rowtime as u32,
                rowtime_name: String::new(),
                expr: Some(watermark.expr.to_proto()),
                idle_timeout_ms: watermark.idle_timeout_ms,
                every_advance: self.reads_watermark,
            }),
            NodeKind::GroupAggregate(aggregate) => Kind::GroupAggregate(v1::GroupAggregate {
                keys: positions(&aggregate.keys),
                key_names: Vec::new(),
                aggregates: calls(&aggregate.calls),
                phase: v1::AggregatePhase::Single as i32,
                input_retracts: input_mode != ChangelogMode::Append,
                emit_update_before: false,
                state_ttl_ms: aggregate.state_ttl_ms,
                aggregate_input: None,
            }),
            NodeKind::WindowAggregate(aggregate) => Kind::WindowAggregate(v1::WindowAggregate {
                window: Some(aggregate.window.to_proto()),
                keys: positions(&aggregate.keys),
                key_names: Vec::new(),
                aggregates: calls(&aggregate.calls),
                phase: v1::AggregatePhase::Single as i32,
                input_retracts: input_mode != ChangelogMode::Append,
                aggregate_input: None,
            }),
            NodeKind::WindowTable(window) => {
                Kind::WindowTableFunction(v1::WindowTableFunction { window: Some(window.to_proto()) })
            }
            NodeKind::Union => Kind::Union(v1::Union {}),
            NodeKind::Sink(sink) => Kind::Sink(v1::Sink {
                options: sink.options.clone(),
                schema: Some(sink.schema.to_proto()),
                primary_key: positions(&sink.primary_key),
                partition_by: positions(&sink.partition_by),
            }),
        })
    }

    /// Local and global part of an aggregation, where it can be split. The operator's identity is that
    /// of the global part, which has the state.
    fn two_phases(&mut self, id: NodeId, parallelism: u32) -> Result<Option<End>, SqlError> {
        let plan = self.plan;
        let node = &plan.nodes[id];
        let (keys, calls_of_node, windowed) = match &node.kind {
            NodeKind::GroupAggregate(aggregate) => (&aggregate.keys, &aggregate.calls, false),
            NodeKind::WindowAggregate(aggregate) => (&aggregate.keys, &aggregate.calls, true),
            _ => return Ok(None),
        };
        let input = node.inputs[0];
        if !self.split_aggregates || calls_of_node.is_empty() || self.modes[input] != ChangelogMode::Append {
            return Ok(None);
        }
        let rows = plan.schema(input);
        let calls = calls(calls_of_node);
        let Ok(Some(accumulators)) = local_output(&positions(keys), &calls, rows, false, windowed) else {
            return Ok(None);
        };
        let global_keys: Vec<usize> = (0..keys.len()).collect();
        let mut local = self.operator(node)?;
        let mut global = local.clone();
        for (kind, phase) in [(&mut local, v1::AggregatePhase::Local), (&mut global, v1::AggregatePhase::Global)] {
            let is_global = phase == v1::AggregatePhase::Global;
            let before = is_global.then(|| rows.to_proto());
            match kind {
                Kind::GroupAggregate(aggregate) => {
                    aggregate.phase = phase as i32;
                    aggregate.aggregate_input = before;
                    if is_global {
                        aggregate.keys = positions(&global_keys);
                    } else {
                        aggregate.state_ttl_ms = 0;
                    }
                }
                Kind::WindowAggregate(aggregate) => {
                    aggregate.phase = phase as i32;
                    aggregate.aggregate_input = before;
                    if is_global {
                        aggregate.keys = positions(&global_keys);
                    }
                }
                _ => return Err(SqlError::Internal("only aggregations are split".to_owned())),
            }
        }
        let producer = self.ends[input].clone();
        let uid = self.uids[id].clone();
        let local_uid = format!("{uid}-local");
        let append = ChangelogMode::Append;
        let local = self.vertex(id, local_uid, local, accumulators, append, producer.parallelism);
        self.edge(&producer.vertex, &local, 0, forward(), false);
        let shuffle = v1::Partitioner { kind: Some(by_key(&global_keys)) };
        let vertex = self.vertex(id, uid, global, node.schema.clone(), self.modes[id], parallelism);
        self.edge(&local, &vertex, 0, shuffle, false);
        Ok(Some(End { vertex, parallelism }))
    }

    fn vertex(
        &mut self,
        id: NodeId,
        uid: String,
        mut kind: Kind,
        schema: RowSchema,
        mode: ChangelogMode,
        parallelism: u32,
    ) -> String {
        if let Kind::GroupAggregate(aggregate) = &mut kind {
            aggregate.emit_update_before = mode == ChangelogMode::Retract;
        }
        let operator = v1::Operator {
            uid: uid.clone(),
            name: format!("{}{}", phase_prefix(&kind), describe(self.plan, id)),
            output_schema: Some(schema.to_proto()),
            changelog: mode.to_proto() as i32,
            kind: Some(kind),
        };
        self.graph.vertices.push(v1::Vertex {
            id: uid.clone(),
            parallelism,
            max_parallelism: 0,
            slot_sharing_group: String::new(),
            operator: Some(operator),
        });
        uid
    }

    fn edge(&mut self, from: &str, to: &str, port: usize, partitioner: v1::Partitioner, ordered: bool) {
        self.graph.edges.push(v1::Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            to_port: port as u32,
            partitioner: Some(partitioner),
            ordered,
        });
    }
}

fn phase_prefix(kind: &Kind) -> &'static str {
    let phase = match kind {
        Kind::GroupAggregate(aggregate) => aggregate.phase,
        Kind::WindowAggregate(aggregate) => aggregate.phase,
        _ => return "",
    };
    match v1::AggregatePhase::try_from(phase) {
        Ok(v1::AggregatePhase::Local) => "Local",
        Ok(v1::AggregatePhase::Global) => "Global",
        _ => "",
    }
}

fn forward() -> v1::Partitioner {
    v1::Partitioner { kind: Some(v1::partitioner::Kind::Forward(v1::Forward {})) }
}

/// All rows of a key in one subtask.
fn by_key(keys: &[usize]) -> v1::partitioner::Kind {
    use v1::partitioner::Kind as P;
    if keys.is_empty() {
        return P::Global(v1::Global {});
    }
    P::Hash(v1::Hash { columns: positions(keys), column_names: Vec::new() })
}

fn source_operator(source: &Source) -> v1::Source {
    let all: Vec<usize> = (0..source.physical.len()).collect();
    let projected = source.projection != all;
    v1::Source {
        options: source.options.clone(),
        schema: Some(source.physical.to_proto()),
        projection: if projected { positions(&source.projection) } else { Vec::new() },
        projected,
    }
}

fn positions(columns: &[usize]) -> Vec<u32> {
    columns.iter().map(|&c| c as u32).collect()
}

fn calls(calls: &[AggregateCall]) -> Vec<v1::AggregateCall> {
    calls
        .iter()
        .map(|call| v1::AggregateCall {
            function: call.function.clone(),
            arguments: positions(&call.arguments),
            argument_names: Vec::new(),
            distinct: call.distinct,
            filter: call.filter.map(|f| f as u32),
            name: call.name.clone(),
            r#type: call.result.to_string(),
            parameters: call.parameters.clone(),
        })
        .collect()
}

fn parallelism_option(options: &BTreeMap<String, String>, key: &str) -> Result<Option<u32>, SqlError> {
    let Some(text) = options.get(key) else { return Ok(None) };
    match text.trim().parse::<u32>() {
        Ok(n) if (1..=32_768).contains(&n) => Ok(Some(n)),
        _ => Err(SqlError::validation(format!("option '{key}': '{text}' is not a parallelism: write 1 to 32768"))),
    }
}

/// The name of a kind in operator uids.
fn kind_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Source(_) => "source",
        NodeKind::Calc(_) => "calc",
        NodeKind::Watermark(_) => "watermark",
        NodeKind::GroupAggregate(_) => "group-aggregate",
        NodeKind::WindowAggregate(_) => "window-aggregate",
        NodeKind::WindowTable(_) => "window-table-function",
        NodeKind::Union => "union",
        NodeKind::Sink(_) => "sink",
    }
}

/// `<sink>/<kind>-<n>`, n counted by kind in post-order; a shared node belongs to the first sink.
fn operator_uids(plan: &Plan, sinks: &[NodeId]) -> Vec<String> {
    let mut uids = vec![String::new(); plan.nodes.len()];
    let mut prefixes: BTreeMap<String, usize> = BTreeMap::new();
    for &sink in sinks {
        let table = match &plan.nodes[sink].kind {
            NodeKind::Sink(sink) => {
                let default = format!("{}.{}.", crate::catalog::DEFAULT_CATALOG, crate::catalog::DEFAULT_DATABASE);
                sink.table.strip_prefix(&default).unwrap_or(&sink.table).to_owned()
            }
            _ => "result".to_owned(),
        };
        let uses = prefixes.entry(table.clone()).or_insert(0);
        *uses += 1;
        let prefix = if *uses == 1 { table } else { format!("{table}-{uses}") };
        let mut ordinals = BTreeMap::new();
        assign_uids(plan, sink, &prefix, &mut ordinals, &mut uids);
    }
    uids
}

fn assign_uids(
    plan: &Plan,
    id: NodeId,
    prefix: &str,
    ordinals: &mut BTreeMap<&'static str, usize>,
    uids: &mut [String],
) {
    if !uids[id].is_empty() {
        return;
    }
    for &input in &plan.nodes[id].inputs {
        assign_uids(plan, input, prefix, ordinals, uids);
    }
    let kind = kind_name(&plan.nodes[id].kind);
    let ordinal = ordinals.entry(kind).or_insert(0);
    *ordinal += 1;
    uids[id] = format!("{prefix}/{kind}-{ordinal}");
}

/// Which nodes feed, through nodes that keep the order, an aggregation over changes whose result
/// depends on their order.
fn ordered_outputs(plan: &Plan, modes: &[ChangelogMode]) -> Vec<bool> {
    const BY_ORDER: [&str; 7] =
        ["FIRST_VALUE", "LAST_VALUE", "LISTAGG", "ARRAY_AGG", "COLLECT", "JSON_ARRAYAGG", "JSON_OBJECTAGG"];
    let by_order = |calls: &[AggregateCall]| {
        calls.iter().any(|call| BY_ORDER.iter().any(|name| call.function.eq_ignore_ascii_case(name)))
    };
    let mut ordered = vec![false; plan.nodes.len()];
    for (id, node) in plan.nodes.iter().enumerate().rev() {
        let wants = match &node.kind {
            NodeKind::GroupAggregate(aggregate) => by_order(&aggregate.calls),
            NodeKind::WindowAggregate(aggregate) => by_order(&aggregate.calls),
            NodeKind::Source(_) | NodeKind::Sink(_) => false,
            _ => ordered[id],
        };
        for &input in &node.inputs {
            ordered[input] |= wants && modes[input] != ChangelogMode::Append;
        }
    }
    ordered
}
