//! Aggregations: which operator computes them, and the calculation in front of it.

use hurtig_graph::{Expr, ExprKind, LogicalType};

use super::node::{AggregateCall, GroupAggregate, NodeKind, Projection, WindowAggregate};
use super::query::Relation;
use super::window::{Window, WindowBound, WindowColumns, WindowKind};
use super::{NodeId, Planner};
use crate::binder::BoundAggregate;
use crate::error::SqlError;
use crate::functions;

/// An aggregation and where its results are.
pub(super) struct Groups {
    pub node: NodeId,
    /// For each key its column.
    pub keys: Vec<usize>,
    /// For each call its column.
    pub calls: Vec<usize>,
}

/// The columns that a calculation computes, each expression once.
struct Columns {
    projections: Vec<Projection>,
}

impl Columns {
    fn add(&mut self, name: &str, expr: &Expr) -> usize {
        if let Some(position) = self.projections.iter().position(|p| p.expr == *expr) {
            return position;
        }
        let taken = |name: &str, columns: &[Projection]| columns.iter().any(|p| p.name == name);
        let mut unique = name.to_owned();
        let mut number = 0;
        while taken(&unique, &self.projections) {
            unique = format!("{name}{number}");
            number += 1;
        }
        self.projections.push(Projection { name: unique, expr: expr.clone() });
        self.projections.len() - 1
    }
}

impl Planner<'_> {
    /// One row for each combination of values of all columns.
    pub(super) fn distinct(&mut self, relation: Relation) -> Result<Relation, SqlError> {
        let keys: Vec<Expr> = relation.columns.iter().map(|c| Expr::column(c.index, c.data_type.clone())).collect();
        let groups = self.aggregate(relation.node, &keys, &[])?;
        let schema = self.plan.schema(groups.node).clone();
        let projections = relation
            .columns
            .iter()
            .zip(&groups.keys)
            .map(|(column, &key)| Projection { name: column.name.clone(), expr: Expr::column_of(&schema, key) })
            .collect();
        let node = self.project(groups.node, None, projections)?;
        Ok(Relation::of_node(&self.plan, node, None))
    }

    /// Groups the rows of `input`. Where the keys hold both bounds of a window, the result is one
    /// row a key and window, emitted when the window ends.
    pub(super) fn aggregate(
        &mut self,
        input: NodeId,
        keys: &[Expr],
        calls: &[BoundAggregate],
    ) -> Result<Groups, SqlError> {
        if let Some(columns) = self.plan.nodes[input].window.clone() {
            let bounds: Vec<Option<WindowBound>> =
                keys.iter().map(|key| key.as_column().and_then(|c| columns.bound(c))).collect();
            if bounds.contains(&Some(WindowBound::Start)) && bounds.contains(&Some(WindowBound::End)) {
                columns.window.check_aggregation()?;
                return self.window_aggregate(input, keys, calls, &columns, &bounds);
            }
        }
        self.group_aggregate(input, keys, calls)
    }

    fn group_aggregate(&mut self, input: NodeId, keys: &[Expr], calls: &[BoundAggregate]) -> Result<Groups, SqlError> {
        let mut columns = Columns { projections: Vec::new() };
        let key_columns: Vec<usize> = keys.iter().map(|key| columns.add(&self.column_name(input, key), key)).collect();
        let calls = self.call_columns(input, calls, &mut columns);
        let state_ttl_ms = self.state_ttl()?;
        let mut distinct_keys = key_columns.clone();
        distinct_keys.sort_unstable();
        distinct_keys.dedup();
        let positions = key_columns.iter().map(|k| distinct_keys.binary_search(k).unwrap_or(0)).collect();
        let first_call = distinct_keys.len();
        let call_positions = (first_call..first_call + calls.len()).collect();
        let calculated = self.calculate(input, None, columns)?;
        let aggregate = GroupAggregate { keys: distinct_keys, calls, state_ttl_ms };
        let node = self.plan.add(NodeKind::GroupAggregate(aggregate), vec![calculated])?;
        Ok(Groups { node, keys: positions, calls: call_positions })
    }

    fn window_aggregate(
        &mut self,
        input: NodeId,
        keys: &[Expr],
        calls: &[BoundAggregate],
        columns: &WindowColumns,
        bounds: &[Option<WindowBound>],
    ) -> Result<Groups, SqlError> {
        match self.below_window_table(input, keys, calls, bounds) {
            Some(fused) => {
                let time = fused.window.time_column;
                self.add_window_aggregate(
                    fused.input,
                    fused.filter,
                    &fused.keys,
                    &fused.calls,
                    fused.window,
                    time,
                    bounds,
                )
            }
            None => self.attached_window_aggregate(input, keys, calls, columns, bounds),
        }
    }

    /// Assigns windows and aggregates in one operator.
    #[allow(clippy::too_many_arguments)]
    fn add_window_aggregate(
        &mut self,
        input: NodeId,
        filter: Option<Expr>,
        keys: &[Expr],
        calls: &[BoundAggregate],
        window: Window,
        time_column: usize,
        bounds: &[Option<WindowBound>],
    ) -> Result<Groups, SqlError> {
        let mut columns = Columns { projections: Vec::new() };
        let mut key_columns = Vec::new();
        for (key, bound) in keys.iter().zip(bounds) {
            if bound.is_none() {
                let column = columns.add(&self.column_name(input, key), key);
                if !key_columns.contains(&column) {
                    key_columns.push(column);
                }
            }
        }
        let calls = self.call_columns(input, calls, &mut columns);
        let time = Expr::column_of(self.plan.schema(input), time_column);
        let time_position = columns.add(&self.column_name(input, &time), &time);
        let position_of_key: Vec<Option<usize>> = keys
            .iter()
            .map(|key| columns.projections.iter().position(|p| p.expr == *key))
            .map(|column| column.and_then(|c| key_columns.iter().position(|k| *k == c)))
            .collect();
        let first_call = key_columns.len();
        let first_bound = first_call + calls.len();
        let positions = position_of_key
            .iter()
            .zip(bounds)
            .map(|(key, bound)| match bound {
                None => key.ok_or_else(|| SqlError::Internal("a grouping key has no column".to_owned())),
                Some(WindowBound::Start) => Ok(first_bound),
                Some(WindowBound::End) => Ok(first_bound + 1),
                Some(WindowBound::Time) => Ok(first_bound + 2),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let calculated = self.calculate(input, filter, columns)?;
        let aggregate = WindowAggregate { window: window.over(time_position), keys: key_columns, calls };
        let node = self.plan.add(NodeKind::WindowAggregate(aggregate), vec![calculated])?;
        Ok(Groups { node, keys: positions, calls: (first_call..first_bound).collect() })
    }

    /// Aggregates rows that carry their windows as columns: the bounds are ordinary keys, and the
    /// slices of the window over `window_time` decide when a result is due. Each window ends with
    /// exactly one slice, so this fires each window once.
    fn attached_window_aggregate(
        &mut self,
        input: NodeId,
        keys: &[Expr],
        calls: &[BoundAggregate],
        columns: &WindowColumns,
        bounds: &[Option<WindowBound>],
    ) -> Result<Groups, SqlError> {
        let Some((input, time_column)) = self.with_window_time(input)? else {
            let construct = "grouping by the windows of a subquery that leaves out window_time is".to_owned();
            return Err(SqlError::Unsupported { construct, position: None });
        };
        let outer = &columns.window;
        let slice = Window { kind: WindowKind::Tumble, size_ms: outer.slide_ms, ..outer.clone() };
        let as_keys: Vec<Option<WindowBound>> =
            bounds.iter().map(|b| b.filter(|bound| *bound == WindowBound::Time)).collect();
        let groups = self.add_window_aggregate(input, None, keys, calls, slice, time_column, &as_keys)?;
        let at = |wanted: WindowBound| -> Vec<usize> {
            groups.keys.iter().zip(bounds).filter(|(_, b)| **b == Some(wanted)).map(|(k, _)| *k).collect()
        };
        let last = self.plan.schema(groups.node).len() - 1;
        self.plan.nodes[groups.node].window = Some(WindowColumns {
            window: outer.clone(),
            start: at(WindowBound::Start),
            end: at(WindowBound::End),
            time: vec![last],
        });
        Ok(groups)
    }

    /// A node like `input` with the column `window_time`, fetched from further down where the query
    /// left it out. Columns are added at the end only.
    fn with_window_time(&mut self, input: NodeId) -> Result<Option<(NodeId, usize)>, SqlError> {
        let node = self.plan.nodes[input].clone();
        if let Some(&time) = node.window.as_ref().and_then(|w| w.time.first()) {
            return Ok(Some((input, time)));
        }
        let NodeKind::Calc(calc) = node.kind else { return Ok(None) };
        let Some((below, time)) = self.with_window_time(node.inputs[0])? else { return Ok(None) };
        let mut projections = match calc.projections {
            Some(projections) => projections,
            None => self.plan.identity(node.inputs[0]),
        };
        let expr = Expr::column_of(self.plan.schema(below), time);
        projections.push(Projection { name: "$window_time".to_owned(), expr });
        let column = projections.len() - 1;
        let carried = self.plan.calc(below, calc.filter, Some(projections))?;
        Ok(Some((carried, column)))
    }

    /// The calculation, or nothing where it would pass its input unchanged.
    fn calculate(&mut self, input: NodeId, filter: Option<Expr>, columns: Columns) -> Result<NodeId, SqlError> {
        // Without a column (COUNT(*) alone) the input's columns stay.
        if columns.projections.is_empty() {
            return self.plan.calc(input, filter, None);
        }
        self.project(input, filter, columns.projections)
    }

    /// Puts arguments and filters into columns.
    fn call_columns(&self, input: NodeId, calls: &[BoundAggregate], columns: &mut Columns) -> Vec<AggregateCall> {
        let number = |call: (usize, &BoundAggregate)| format!("{}${}", call.1.function.to_lowercase(), call.0);
        calls
            .iter()
            .enumerate()
            .map(|(i, call)| AggregateCall {
                function: call.function.clone(),
                arguments: call.args.iter().map(|a| columns.add(&self.column_name(input, a), a)).collect(),
                distinct: call.distinct,
                filter: call.filter.as_ref().map(|f| columns.add(&format!("$filter{i}"), f)),
                parameters: call.parameters.clone(),
                name: number((i, call)),
                result: call.result.clone(),
            })
            .collect()
    }

    fn column_name(&self, input: NodeId, expr: &Expr) -> String {
        match expr.as_column() {
            Some(column) => self.plan.schema(input).fields[column].name.clone(),
            None => "$f".to_owned(),
        }
    }

    /// The same aggregation over the input of the window table function below `input`, if only
    /// calculations that do not touch the window's bounds lie between. What they compute goes wherever
    /// it is read, so it must be the same each time.
    fn below_window_table(
        &self,
        input: NodeId,
        keys: &[Expr],
        calls: &[BoundAggregate],
        bounds: &[Option<WindowBound>],
    ) -> Option<Fused> {
        let mut path = Substitution { exprs: Vec::new(), filters: Vec::new() };
        path.exprs.extend(keys.iter().cloned());
        for call in calls {
            path.exprs.extend(call.args.iter().cloned().chain(call.filter.clone()));
        }
        let mut node = &self.plan.nodes[input];
        let window = loop {
            match &node.kind {
                NodeKind::Calc(calc) => {
                    if is_volatile(calc) {
                        return None;
                    }
                    path.through(calc);
                    node = &self.plan.nodes[node.inputs[0]];
                }
                NodeKind::WindowTable(window) => break window,
                _ => return None,
            }
        };
        let below = node.inputs[0];
        let width = self.plan.schema(below).len();
        let within = |e: &Expr| {
            let mut inside = true;
            e.visit(&mut |e| inside &= e.as_column().is_none_or(|c| c < width));
            inside
        };
        let ordinary = keys.len()..path.exprs.len();
        let keys_within = path.exprs[..keys.len()].iter().zip(bounds).all(|(e, b)| b.is_some() || within(e));
        if !keys_within || !path.exprs[ordinary].iter().chain(&path.filters).all(within) {
            return None;
        }
        let mut exprs = path.exprs.into_iter();
        let keys = exprs.by_ref().take(keys.len()).collect();
        let calls = calls
            .iter()
            .map(|call| BoundAggregate {
                args: exprs.by_ref().take(call.args.len()).collect(),
                filter: call.filter.as_ref().and_then(|_| exprs.next()),
                ..call.clone()
            })
            .collect();
        Some(Fused { input: below, filter: conjunction(path.filters), keys, calls, window: window.clone() })
    }
}

/// A window aggregation moved below its window table function.
struct Fused {
    input: NodeId,
    filter: Option<Expr>,
    keys: Vec<Expr>,
    calls: Vec<BoundAggregate>,
    window: Window,
}

/// Whether `calc` computes something that differs from one evaluation to the next.
fn is_volatile(calc: &super::node::Calc) -> bool {
    let mut volatile = false;
    let projected = calc.projections.iter().flatten().map(|p| &p.expr);
    projected.chain(&calc.filter).for_each(|expr| {
        expr.visit(&mut |e| {
            volatile |= matches!(&e.kind, ExprKind::Call { function, .. } if functions::is_volatile(function));
        });
    });
    volatile
}

/// Expressions carried down through calculations.
struct Substitution {
    exprs: Vec<Expr>,
    filters: Vec<Expr>,
}

impl Substitution {
    fn through(&mut self, calc: &super::node::Calc) {
        if let Some(projections) = &calc.projections {
            let inline = |e: &Expr| e.replace_columns(&|column, _| projections[column].expr.clone());
            self.exprs = self.exprs.iter().map(inline).collect();
            self.filters = self.filters.iter().map(inline).collect();
        }
        // The lower filter is evaluated first.
        self.filters.splice(0..0, calc.filter.clone());
    }
}

/// All of `conditions`, joined by AND.
pub(super) fn conjunction(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| {
        let nullable = left.data_type.nullable || right.data_type.nullable;
        Expr::call("AND", vec![left, right], LogicalType::Boolean.nullable().with_nullable(nullable))
    })
}
