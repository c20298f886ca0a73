//! Unused columns are not computed or read, and calculations in a row become one.
//!
//! Works on the whole plan at once, so that a source that several sinks share reads the columns that
//! any of them needs.

use std::collections::BTreeSet;

use hurtig_graph::{Expr, ExprKind, LogicalType};

use super::NodeId;
use super::aggregate::conjunction;
use super::node::{
    AggregateCall, Calc, GroupAggregate, Node, NodeKind, Plan, Projection, Source, WatermarkAssigner, WindowAggregate,
};
use crate::error::SqlError;

/// The optimised plan of what `sinks` need; also where the sinks are in it.
pub(crate) fn optimize(plan: &Plan, sinks: &[NodeId]) -> Result<(Plan, Vec<NodeId>), SqlError> {
    let needed = needed_columns(plan, sinks);
    let mut rewrite = Rewrite {
        old: plan,
        needed,
        consumers: consumers(plan, sinks),
        new: Plan::default(),
        places: vec![None; plan.nodes.len()],
    };
    for id in 0..plan.nodes.len() {
        if rewrite.needed[id].is_some() {
            let place = rewrite.node(id)?;
            rewrite.places[id] = Some(place);
        }
    }
    let new_sinks =
        sinks.iter().map(|&sink| rewrite.place(sink).map(|place| place.node)).collect::<Result<Vec<_>, _>>()?;
    compact(&rewrite.new, &new_sinks)
}

/// Where an old node went.
#[derive(Debug, Clone)]
struct Place {
    node: NodeId,
    /// For each old column the new one.
    columns: Vec<Option<usize>>,
}

struct Rewrite<'a> {
    old: &'a Plan,
    /// For each node that is used, which of its columns are.
    needed: Vec<Option<BTreeSet<usize>>>,
    /// How many nodes read each node.
    consumers: Vec<usize>,
    new: Plan,
    places: Vec<Option<Place>>,
}

fn columns_of(expr: &Expr, columns: &mut BTreeSet<usize>) {
    expr.visit(&mut |e| columns.extend(e.as_column()));
}

fn needed_columns(plan: &Plan, sinks: &[NodeId]) -> Vec<Option<BTreeSet<usize>>> {
    let mut needed: Vec<Option<BTreeSet<usize>>> = vec![None; plan.nodes.len()];
    for &sink in sinks {
        needed[sink] = Some((0..plan.schema(sink).len()).collect());
    }
    for id in (0..plan.nodes.len()).rev() {
        let Some(of_node) = needed[id].clone() else { continue };
        let node = &plan.nodes[id];
        let of_input = needed_of_input(plan, node, &of_node);
        for &input in &node.inputs {
            needed[input].get_or_insert_default().extend(&of_input);
        }
    }
    needed
}

fn needed_of_input(plan: &Plan, node: &Node, needed: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut columns = BTreeSet::new();
    match &node.kind {
        NodeKind::Source(_) => {}
        NodeKind::Calc(calc) => {
            calc.filter.iter().for_each(|f| columns_of(f, &mut columns));
            match &calc.projections {
                None => columns.extend(needed),
                Some(projections) => needed.iter().for_each(|&i| columns_of(&projections[i].expr, &mut columns)),
            }
        }
        NodeKind::Watermark(watermark) => {
            columns.extend(needed);
            columns.insert(watermark.rowtime);
            columns_of(&watermark.expr, &mut columns);
        }
        NodeKind::GroupAggregate(aggregate) => {
            columns.extend(&aggregate.keys);
            for i in kept_calls(aggregate.keys.len(), &aggregate.calls, needed) {
                columns.extend(aggregate.calls[i].columns());
            }
        }
        NodeKind::WindowAggregate(aggregate) => {
            columns.extend(&aggregate.keys);
            columns.insert(aggregate.window.time_column);
            for i in kept_calls(aggregate.keys.len(), &aggregate.calls, needed) {
                columns.extend(aggregate.calls[i].columns());
            }
        }
        NodeKind::WindowTable(window) => {
            let width = plan.schema(node.inputs[0]).len();
            columns.extend(needed.iter().filter(|c| **c < width));
            columns.insert(window.time_column);
        }
        NodeKind::Union => columns.extend(needed),
        NodeKind::Sink(_) => columns.extend(0..node.schema.len()),
    }
    columns
}

/// The calls whose results are used; an aggregation without keys keeps one at least.
fn kept_calls(keys: usize, calls: &[AggregateCall], needed: &BTreeSet<usize>) -> Vec<usize> {
    let kept: Vec<usize> = (0..calls.len()).filter(|i| needed.contains(&(keys + i))).collect();
    if kept.is_empty() && keys == 0 && !calls.is_empty() { vec![0] } else { kept }
}

fn consumers(plan: &Plan, sinks: &[NodeId]) -> Vec<usize> {
    let mut reached = vec![false; plan.nodes.len()];
    sinks.iter().for_each(|&sink| reached[sink] = true);
    let mut counts = vec![0; plan.nodes.len()];
    for id in (0..plan.nodes.len()).rev() {
        if reached[id] {
            for &input in &plan.nodes[id].inputs {
                reached[input] = true;
                counts[input] += 1;
            }
        }
    }
    counts
}

impl Rewrite<'_> {
    fn place(&self, old: NodeId) -> Result<&Place, SqlError> {
        self.places[old].as_ref().ok_or_else(|| SqlError::Internal(format!("plan node {old} was dropped but is used")))
    }

    fn node(&mut self, id: NodeId) -> Result<Place, SqlError> {
        let old = self.old;
        let node = &old.nodes[id];
        match &node.kind {
            NodeKind::Source(source) => self.source(id, source),
            NodeKind::Calc(calc) => self.calc(id, calc, node.inputs[0]),
            NodeKind::Watermark(watermark) => {
                let input = self.place(node.inputs[0])?.clone();
                let kind = NodeKind::Watermark(WatermarkAssigner {
                    rowtime: column(&input, watermark.rowtime)?,
                    expr: map_expr(&watermark.expr, &input)?,
                    idle_timeout_ms: watermark.idle_timeout_ms,
                });
                let node = self.new.add(kind, vec![input.node])?;
                Ok(Place { node, columns: input.columns })
            }
            NodeKind::GroupAggregate(aggregate) => {
                let input = self.place(node.inputs[0])?.clone();
                let kept = kept_calls(aggregate.keys.len(), &aggregate.calls, self.needed(id));
                let kind = NodeKind::GroupAggregate(GroupAggregate {
                    keys: map_columns(&aggregate.keys, &input)?,
                    calls: map_calls(&aggregate.calls, &kept, &input)?,
                    state_ttl_ms: aggregate.state_ttl_ms,
                });
                let columns = aggregate_columns(aggregate.keys.len(), aggregate.calls.len(), &kept, 0);
                Ok(Place { node: self.new.add(kind, vec![input.node])?, columns })
            }
            NodeKind::WindowAggregate(aggregate) => {
                let input = self.place(node.inputs[0])?.clone();
                let kept = kept_calls(aggregate.keys.len(), &aggregate.calls, self.needed(id));
                let kind = NodeKind::WindowAggregate(WindowAggregate {
                    window: aggregate.window.over(column(&input, aggregate.window.time_column)?),
                    keys: map_columns(&aggregate.keys, &input)?,
                    calls: map_calls(&aggregate.calls, &kept, &input)?,
                });
                let columns = aggregate_columns(aggregate.keys.len(), aggregate.calls.len(), &kept, 3);
                Ok(Place { node: self.new.add(kind, vec![input.node])?, columns })
            }
            NodeKind::WindowTable(window) => {
                let input = self.place(node.inputs[0])?.clone();
                let width = self.new.schema(input.node).len();
                let kind = NodeKind::WindowTable(window.over(column(&input, window.time_column)?));
                let mut columns = input.columns.clone();
                columns.extend((width..width + 3).map(Some));
                Ok(Place { node: self.new.add(kind, vec![input.node])?, columns })
            }
            NodeKind::Union => self.union(id, &node.inputs),
            NodeKind::Sink(sink) => {
                let all: Vec<usize> = (0..node.schema.len()).collect();
                let input = self.exactly(node.inputs[0], &all)?;
                let node = self.new.add(NodeKind::Sink(sink.clone()), vec![input])?;
                Ok(Place { node, columns: all.into_iter().map(Some).collect() })
            }
        }
    }

    fn needed(&self, id: NodeId) -> &BTreeSet<usize> {
        static NONE: BTreeSet<usize> = BTreeSet::new();
        self.needed[id].as_ref().unwrap_or(&NONE)
    }

    fn source(&mut self, id: NodeId, source: &Source) -> Result<Place, SqlError> {
        let mut kept: Vec<usize> = self.needed(id).iter().copied().collect();
        if !source.info.projection_pushdown {
            kept = (0..source.projection.len()).collect();
        }
        if kept.is_empty() {
            kept.push(cheapest_column(source));
        }
        let mut columns = vec![None; source.projection.len()];
        kept.iter().enumerate().for_each(|(new, &old)| columns[old] = Some(new));
        let projection = kept.iter().map(|&i| source.projection[i]).collect();
        let kind = NodeKind::Source(Source { projection, ..source.clone() });
        Ok(Place { node: self.new.add(kind, Vec::new())?, columns })
    }

    fn calc(&mut self, id: NodeId, calc: &Calc, old_input: NodeId) -> Result<Place, SqlError> {
        let input = self.place(old_input)?.clone();
        let filter = calc.filter.as_ref().map(|f| map_expr(f, &input)).transpose()?;
        let width = self.old.schema(id).len();
        let mut columns = vec![None; width];
        let projections = match &calc.projections {
            None => {
                columns.clone_from(&input.columns);
                None
            }
            Some(_) if self.needed(id).is_empty() => None,
            Some(projections) => {
                let mut kept = Vec::new();
                for &i in self.needed(id) {
                    columns[i] = Some(kept.len());
                    let expr = map_expr(&projections[i].expr, &input)?;
                    kept.push(Projection { name: projections[i].name.clone(), expr });
                }
                Some(kept)
            }
        };
        let shared = self.consumers[old_input] > 1;
        let node = self.add_calc(input.node, Calc { filter, projections }, shared)?;
        Ok(Place { node, columns })
    }

    /// Adds a calculation, merging it into one below and leaving it out where it does nothing.
    fn add_calc(&mut self, input: NodeId, calc: Calc, shared: bool) -> Result<NodeId, SqlError> {
        let below = &self.new.nodes[input];
        if let NodeKind::Calc(inner) = &below.kind
            && !shared
            && let Some(merged) = merge(inner, &calc)
        {
            let input = below.inputs[0];
            return self.add_unless_idle(input, merged);
        }
        self.add_unless_idle(input, calc)
    }

    fn add_unless_idle(&mut self, input: NodeId, calc: Calc) -> Result<NodeId, SqlError> {
        let width = self.new.schema(input).len();
        let passes_all = calc.projections.as_ref().is_none_or(|projections| {
            projections.len() == width && projections.iter().enumerate().all(|(i, p)| p.expr.as_column() == Some(i))
        });
        // Names do not matter below: sinks have their own.
        if passes_all {
            return self.new.calc(input, calc.filter, None);
        }
        self.new.calc(input, calc.filter, calc.projections)
    }

    fn union(&mut self, id: NodeId, old_inputs: &[NodeId]) -> Result<Place, SqlError> {
        let mut kept: Vec<usize> = self.needed(id).iter().copied().collect();
        let width = self.old.schema(id).len();
        if kept.is_empty() {
            // Rows without columns: the first column stands for them, if the inputs still have it.
            return self.union_of_nothing(old_inputs, width);
        }
        kept.sort_unstable();
        let inputs = old_inputs.iter().map(|&input| self.exactly(input, &kept)).collect::<Result<Vec<_>, _>>()?;
        let mut columns = vec![None; width];
        kept.iter().enumerate().for_each(|(new, &old)| columns[old] = Some(new));
        Ok(Place { node: self.new.add(NodeKind::Union, inputs)?, columns })
    }

    fn union_of_nothing(&mut self, old_inputs: &[NodeId], width: usize) -> Result<Place, SqlError> {
        let one = Expr::literal(hurtig_graph::Literal::Boolean(true), LogicalType::Boolean.not_null());
        let mut inputs = Vec::new();
        for &old in old_inputs {
            let input = self.place(old)?.node;
            let row = vec![Projection { name: "$row".to_owned(), expr: one.clone() }];
            inputs.push(self.new.calc(input, None, Some(row))?);
        }
        Ok(Place { node: self.new.add(NodeKind::Union, inputs)?, columns: vec![None; width] })
    }

    /// A node with exactly the given old columns of `old`, in that order.
    fn exactly(&mut self, old: NodeId, wanted: &[usize]) -> Result<NodeId, SqlError> {
        let place = self.place(old)?.clone();
        let schema = self.new.schema(place.node).clone();
        let mut projections = Vec::new();
        for &i in wanted {
            let position = column(&place, i)?;
            let name = self.old.schema(old).fields[i].name.clone();
            projections.push(Projection { name, expr: Expr::column_of(&schema, position) });
        }
        let shared = self.consumers[old] > 1;
        self.add_calc(place.node, Calc { filter: None, projections: Some(projections) }, shared)
    }
}

fn column(input: &Place, old: usize) -> Result<usize, SqlError> {
    input.columns[old].ok_or_else(|| SqlError::Internal(format!("column {old} of a plan node was dropped but is used")))
}

fn map_columns(columns: &[usize], input: &Place) -> Result<Vec<usize>, SqlError> {
    columns.iter().map(|&c| column(input, c)).collect()
}

fn map_expr(expr: &Expr, input: &Place) -> Result<Expr, SqlError> {
    let mut used = BTreeSet::new();
    columns_of(expr, &mut used);
    used.into_iter().try_for_each(|c| column(input, c).map(drop))?;
    Ok(expr.map_columns(&|c| input.columns[c].unwrap_or(0)))
}

fn map_calls(calls: &[AggregateCall], kept: &[usize], input: &Place) -> Result<Vec<AggregateCall>, SqlError> {
    kept.iter()
        .map(|&i| {
            calls[i].columns().try_for_each(|c| column(input, c).map(drop))?;
            Ok(calls[i].map_columns(|c| input.columns[c].unwrap_or(0)))
        })
        .collect()
}

/// Where the columns of an aggregation went: keys, the calls that were kept, what is behind them.
fn aggregate_columns(keys: usize, calls: usize, kept: &[usize], behind: usize) -> Vec<Option<usize>> {
    let mut columns: Vec<Option<usize>> = (0..keys).map(Some).collect();
    columns.extend((0..calls).map(|call| kept.iter().position(|k| *k == call).map(|i| keys + i)));
    columns.extend((0..behind).map(|i| Some(keys + kept.len() + i)));
    columns
}

/// The column that is cheapest to read where none is needed but rows must be counted.
fn cheapest_column(source: &Source) -> usize {
    let fixed_width = |&i: &usize| {
        let logical = &source.physical.fields[source.projection[i]].data_type.logical;
        logical.is_numeric() || logical.is_temporal() || *logical == LogicalType::Boolean
    };
    (0..source.projection.len()).find(fixed_width).unwrap_or(0)
}

/// `outer` over `inner` as one calculation, unless that would compute something twice.
fn merge(inner: &Calc, outer: &Calc) -> Option<Calc> {
    let Some(inner_projections) = &inner.projections else {
        let filter = conjunction(inner.filter.iter().chain(&outer.filter).cloned().collect());
        return Some(Calc { filter, projections: outer.projections.clone() });
    };
    let mut uses = vec![0; inner_projections.len()];
    let mut count = |e: &Expr| e.visit(&mut |e| e.as_column().into_iter().for_each(|c| uses[c] += 1));
    outer.filter.iter().for_each(&mut count);
    match &outer.projections {
        None => uses.iter_mut().for_each(|u| *u += 1),
        Some(projections) => projections.iter().for_each(|p| count(&p.expr)),
    }
    let is_cheap = |e: &Expr| matches!(e.kind, ExprKind::Column(_) | ExprKind::Literal(_));
    if inner_projections.iter().zip(&uses).any(|(p, uses)| *uses > 1 && !is_cheap(&p.expr)) {
        return None;
    }
    let inline = |e: &Expr| e.replace_columns(&|column, _| inner_projections[column].expr.clone());
    let filter = conjunction(inner.filter.iter().cloned().chain(outer.filter.as_ref().map(inline)).collect());
    let projections = match &outer.projections {
        None => inner_projections.clone(),
        Some(projections) => {
            projections.iter().map(|p| Projection { name: p.name.clone(), expr: inline(&p.expr) }).collect()
        }
    };
    Some(Calc { filter, projections: Some(projections) })
}

/// Without the nodes that no sink reaches.
fn compact(plan: &Plan, sinks: &[NodeId]) -> Result<(Plan, Vec<NodeId>), SqlError> {
    let mut reached = vec![false; plan.nodes.len()];
    sinks.iter().for_each(|&sink| reached[sink] = true);
    for id in (0..plan.nodes.len()).rev() {
        if reached[id] {
            plan.nodes[id].inputs.iter().for_each(|&input| reached[input] = true);
        }
    }
    let mut compacted = Plan::default();
    let mut places = vec![0; plan.nodes.len()];
    for (id, node) in plan.nodes.iter().enumerate().filter(|(id, _)| reached[*id]) {
        let inputs = node.inputs.iter().map(|&input| places[input]).collect();
        places[id] = compacted.add(node.kind.clone(), inputs)?;
    }
    Ok((compacted, sinks.iter().map(|&sink| places[sink]).collect()))
}
