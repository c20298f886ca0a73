//! Plans for people: the tree of nodes with their columns, change modes and keys, and the job graph.

use std::fmt::Write;

use hurtig_graph::{Expr, RowSchema};
use hurtig_proto::v1;

use super::NodeId;
use super::changelog::ChangelogMode;
use super::node::{AggregateCall, NodeKind, Plan};

/// One line that says what a node does.
pub(crate) fn describe(plan: &Plan, id: NodeId) -> String {
    let node = &plan.nodes[id];
    let input = node.inputs.first().map(|&input| plan.schema(input));
    let columns = |schema: &RowSchema| schema.fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>().join(", ");
    let names = |positions: &[usize]| match input {
        Some(schema) => positions.iter().map(|&p| schema.fields[p].name.clone()).collect::<Vec<_>>().join(", "),
        None => String::new(),
    };
    match (&node.kind, input) {
        (NodeKind::Source(source), _) => {
            format!("Source(table=[{}], fields=[{}])", source.table, columns(&node.schema))
        }
        (NodeKind::Calc(calc), Some(input)) => {
            let mut parts = Vec::new();
            if let Some(projections) = &calc.projections {
                let items: Vec<String> = projections
                    .iter()
                    .map(|p| {
                        let expr = expr_text(&p.expr, input);
                        if expr == p.name { expr } else { format!("{expr} AS {}", p.name) }
                    })
                    .collect();
                parts.push(format!("select=[{}]", items.join(", ")));
            }
            if let Some(filter) = &calc.filter {
                parts.push(format!("where=[{}]", expr_text(filter, input)));
            }
            format!("Calc({})", parts.join(", "))
        }
        (NodeKind::Watermark(watermark), Some(input)) => format!(
            "WatermarkAssigner(rowtime=[{}], watermark=[{}])",
            names(&[watermark.rowtime]),
            expr_text(&watermark.expr, input)
        ),
        (NodeKind::GroupAggregate(aggregate), Some(input)) => {
            let calls = calls_text(&aggregate.calls, input);
            format!("GroupAggregate(groupBy=[{}], select=[{calls}])", names(&aggregate.keys))
        }
        (NodeKind::WindowAggregate(aggregate), Some(input)) => format!(
            "WindowAggregate(groupBy=[{}], window=[{}], select=[{}])",
            names(&aggregate.keys),
            aggregate.window.describe(&names(&[aggregate.window.time_column])),
            calls_text(&aggregate.calls, input)
        ),
        (NodeKind::WindowTable(window), Some(_)) => {
            format!("WindowTableFunction(window=[{}])", window.describe(&names(&[window.time_column])))
        }
        (NodeKind::Sink(sink), _) => format!("Sink(table=[{}], fields=[{}])", sink.table, columns(&sink.schema)),
        (kind, _) => format!("{}({})", kind.name(), columns(&node.schema)),
    }
}

fn calls_text(calls: &[AggregateCall], input: &RowSchema) -> String {
    let call_text = |call: &AggregateCall| {
        let arguments: Vec<&str> = call.arguments.iter().map(|&a| input.fields[a].name.as_str()).collect();
        let arguments = if arguments.is_empty() { "*".to_owned() } else { arguments.join(", ") };
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let mut text = format!("{}({distinct}{arguments})", call.function);
        if let Some(filter) = call.filter {
            let _ = write!(text, " FILTER {}", input.fields[filter].name);
        }
        text
    };
    calls.iter().map(call_text).collect::<Vec<_>>().join(", ")
}

/// An expression with column names instead of positions.
fn expr_text(expr: &Expr, input: &RowSchema) -> String {
    let text = expr.to_string();
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        quoted ^= c == '\'';
        let mut digits = String::new();
        if c == '$' && !quoted {
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
        }
        match digits.parse::<usize>().ok().and_then(|i| input.fields.get(i)) {
            Some(field) => out.push_str(&field.name),
            None => {
                out.push(c);
                out.push_str(&digits);
            }
        }
    }
    out
}

/// The tree below each sink, indented by depth.
pub(crate) fn tree(plan: &Plan, sinks: &[NodeId], modes: Option<&[ChangelogMode]>) -> String {
    let mut out = String::new();
    for (i, &sink) in sinks.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        branch(plan, sink, modes, 0, &mut out);
    }
    out
}

fn branch(plan: &Plan, id: NodeId, modes: Option<&[ChangelogMode]>, depth: usize, out: &mut String) {
    let mut line = describe(plan, id);
    let node = &plan.nodes[id];
    if let Some(modes) = modes {
        let is_sink = matches!(node.kind, NodeKind::Sink(_));
        let mode = if is_sink { "NONE" } else { modes[id].describe() };
        let key = match &node.key {
            Some(key) if !is_sink => {
                let names: Vec<&str> = key.iter().map(|&k| node.schema.fields[k].name.as_str()).collect();
                format!(", upsertKey=[{}]", names.join(", "))
            }
            _ => String::new(),
        };
        line.push_str(&format!(" changelogMode={mode}{key}"));
    }
    let _ =
        writeln!(out, "{}{line}", if depth == 0 { String::new() } else { format!("{}+- ", "   ".repeat(depth - 1)) });
    for &input in &node.inputs {
        branch(plan, input, modes, depth + 1, out);
    }
}

/// Vertices with parallelism, uid and state, and the edges between them.
pub(crate) fn job_graph_text(graph: &v1::JobGraph) -> String {
    let mut out = String::new();
    for vertex in &graph.vertices {
        let name = vertex.operator.as_ref().map_or("", |o| o.name.as_str());
        let parallelism = match vertex.parallelism {
            0 => "default".to_owned(),
            n => n.to_string(),
        };
        let _ = writeln!(out, "{} [parallelism {parallelism}]: {name}", vertex.id);
        if let Some(cells) = state_of(vertex) {
            let _ = writeln!(out, "   state: {cells}");
        }
        for edge in graph.edges.iter().filter(|e| e.to == vertex.id) {
            let ordered = if edge.ordered { ", ordered" } else { "" };
            let _ = writeln!(out, "   <- {} ({}{ordered})", edge.from, partitioner_text(edge.partitioner.as_ref()));
        }
    }
    out
}

fn state_of(vertex: &v1::Vertex) -> Option<String> {
    use v1::operator::Kind;
    match vertex.operator.as_ref()?.kind.as_ref()? {
        Kind::GroupAggregate(a) if a.phase != v1::AggregatePhase::Local as i32 => {
            let ttl = if a.state_ttl_ms == 0 { String::new() } else { format!(", kept for {} ms", a.state_ttl_ms) };
            Some(format!("one accumulator a key{ttl}"))
        }
        Kind::WindowAggregate(a) if a.phase != v1::AggregatePhase::Local as i32 => {
            Some("one accumulator a key and slice, until its last window ends".to_owned())
        }
        Kind::Source(_) => Some("read positions".to_owned()),
        Kind::Watermark(_) => Some("the current watermark".to_owned()),
        _ => None,
    }
}

fn partitioner_text(partitioner: Option<&v1::Partitioner>) -> String {
    use v1::partitioner::Kind;
    match partitioner.and_then(|p| p.kind.as_ref()) {
        Some(Kind::Forward(_)) => "forward".to_owned(),
        Some(Kind::Hash(hash)) => {
            format!("hash on {}", hash.columns.iter().map(|c| format!("${c}")).collect::<Vec<_>>().join(", "))
        }
        Some(Kind::Rebalance(_)) => "rebalance".to_owned(),
        Some(Kind::Rescale(_)) => "rescale".to_owned(),
        Some(Kind::Broadcast(_)) => "broadcast".to_owned(),
        Some(Kind::Global(_)) => "global".to_owned(),
        None => "unset".to_owned(),
    }
}
