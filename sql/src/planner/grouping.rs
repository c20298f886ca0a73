//! GROUP BY: its keys, grouping sets, the older group windows, and the SELECT list over groups.
//!
//! Grouping sets are computed over the union of one projection per set, in which the keys that the
//! set leaves out are NULL and a number tells the sets apart. The older group windows
//! (`GROUP BY TUMBLE(ts, ...)`) become window table functions.

use std::ops::ControlFlow;

use hurtig_graph::aggregates::AggregateFunction;
use hurtig_graph::{Expr, Literal, LogicalType};
use sqlparser::ast::{Expr as Ast, Function, GroupByExpr, Ident, Select, Spanned, visit_expressions_mut};
use sqlparser::tokenizer::Span;

use super::node::Projection;
use super::query::Relation;
use super::select::{Item, ItemValue, check_condition};
use super::window::{WindowKind, plain_arguments};
use super::{NodeId, Planner};
use crate::binder::{self, BoundAggregate, Scope};
use crate::error::SqlError;

const WINDOW_COLUMNS: [&str; 3] = ["$window_start", "$window_end", "$window_time"];

/// GROUP BY as written.
struct GroupBy {
    keys: Vec<Ast>,
    /// Positions in `keys`; one set unless grouping sets are used.
    sets: Vec<Vec<usize>>,
}

/// What rows are grouped by.
struct Keys {
    node: NodeId,
    /// As the SELECT list refers to them.
    matches: Vec<Expr>,
    /// As they are computed over `node`.
    sources: Vec<Expr>,
}

impl Planner<'_> {
    pub(super) fn grouped_select(
        &mut self,
        select: &Select,
        input: Relation,
        items: Vec<Item>,
    ) -> Result<Relation, SqlError> {
        let filter = self.bind_filter(select.selection.as_ref(), "WHERE", &input)?;
        let mut relation = Relation { node: self.plan.calc(input.node, filter, None)?, columns: input.columns };
        let mut group_by = parse_group_by(&select.group_by)?;
        let mut items = items;
        let mut having = select.having.clone();
        if let Some(window) = take_group_window(&mut group_by)? {
            relation = self.group_window(relation, &window)?;
            let mut exprs: Vec<&mut Ast> = group_by.keys.iter_mut().chain(&mut having).collect();
            exprs.extend(items.iter_mut().filter_map(item_expr));
            exprs.into_iter().try_for_each(|expr| replace_auxiliary_functions(expr, &window))?;
        }
        let grouping = replace_grouping_functions(&group_by, &mut items, &mut having)?;
        let keys = self.bind_keys(&group_by, &grouping, &mut relation)?;
        self.select_groups(&relation, &keys, &items, having.as_ref())
    }

    /// Binds the SELECT list and HAVING over the groups, and adds the aggregation.
    fn select_groups(
        &mut self,
        relation: &Relation,
        keys: &Keys,
        items: &[Item],
        having: Option<&Ast>,
    ) -> Result<Relation, SqlError> {
        let scope = Scope { columns: relation.columns.clone(), session: self.settings };
        let mut calls = Vec::new();
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            let known = calls.len();
            bound.push(match &item.value {
                ItemValue::Expr(expr) => binder::bind_with_aggregates(expr, &scope, &keys.matches, &mut calls)
                    .map_err(|e| e.or_at(expr.span()))?,
                ItemValue::Column(column, span) => {
                    let whole = Expr::column(column.index, column.data_type.clone());
                    let key = keys.matches.iter().position(|k| *k == whole).ok_or_else(|| {
                        let message = format!("column '{}' is neither grouped by nor aggregated", column.name);
                        SqlError::validation_at(message, *span)
                    })?;
                    Expr::column(key, column.data_type.clone())
                }
            });
            if let ItemValue::Expr(expr) = &item.value {
                check_calls(&calls[known..], expr.span())?;
            }
        }
        let having = match having {
            None => None,
            Some(condition) => {
                let bound = binder::bind_with_aggregates(condition, &scope, &keys.matches, &mut calls)
                    .map_err(|e| e.or_at(condition.span()))?;
                check_condition(&bound, "HAVING", condition.span())?;
                check_calls(&calls, condition.span())?;
                Some(bound)
            }
        };
        let groups = self.aggregate(keys.node, &keys.sources, &calls)?;
        let schema = self.plan.schema(groups.node).clone();
        let over_groups = |e: &Expr| {
            e.replace_columns(&|index, _| {
                let position = match index.checked_sub(groups.keys.len()) {
                    None => groups.keys[index],
                    Some(call) => groups.calls[call],
                };
                Expr::column_of(&schema, position)
            })
        };
        let projections = items
            .iter()
            .zip(&bound)
            .map(|(item, expr)| Projection { name: item.name.clone(), expr: over_groups(expr) })
            .collect();
        let node = self.project(groups.node, having.as_ref().map(over_groups), projections)?;
        Ok(Relation::of_node(&self.plan, node, None))
    }

    fn bind_keys(
        &mut self,
        group_by: &GroupBy,
        grouping: &[GroupingCall],
        relation: &mut Relation,
    ) -> Result<Keys, SqlError> {
        let scope = Scope { columns: relation.columns.clone(), session: self.settings };
        let mut matches = Vec::new();
        for key in &group_by.keys {
            if matches!(key, Ast::Value(_)) {
                let message = "GROUP BY takes expressions over the input, not positions or constants";
                return Err(SqlError::validation_at(message, key.span()));
            }
            matches.push(binder::bind_scalar(key, &scope).map_err(|e| e.or_at(key.span()))?);
        }
        if group_by.sets.len() == 1 && grouping.is_empty() {
            return Ok(Keys { node: relation.node, sources: matches.clone(), matches });
        }
        self.expand_sets(group_by, grouping, relation, matches)
    }

    /// The union of one projection per grouping set. The input's columns keep their places; behind
    /// them come the keys, the results of GROUPING functions and the number of the set.
    fn expand_sets(
        &mut self,
        group_by: &GroupBy,
        grouping: &[GroupingCall],
        relation: &mut Relation,
        mut matches: Vec<Expr>,
    ) -> Result<Keys, SqlError> {
        let width = self.plan.schema(relation.node).len();
        let number = |n: i64| Expr::literal(Literal::Int(n), LogicalType::BigInt.not_null());
        let mut branches = Vec::new();
        for (set_number, set) in group_by.sets.iter().enumerate() {
            let mut projections = self.plan.identity(relation.node);
            for (i, key) in matches.iter().enumerate() {
                let expr = if set.contains(&i) {
                    key.clone()
                } else {
                    Expr::literal(Literal::Null, key.data_type.with_nullable(true))
                };
                projections.push(Projection { name: format!("$key{i}"), expr });
            }
            for (i, call) in grouping.iter().enumerate() {
                projections.push(Projection { name: grouping_column(i), expr: number(call.value(set)) });
            }
            projections.push(Projection { name: "$set".to_owned(), expr: number(set_number as i64) });
            let node = self.plan.calc(relation.node, None, Some(projections))?;
            branches.push(Relation::of_node(&self.plan, node, None));
        }
        let expanded = match branches.len() {
            1 => branches.remove(0),
            _ => self.union_all(branches, Span::empty())?,
        };
        let schema = self.plan.schema(expanded.node);
        let sources = (width..schema.len()).map(|i| Expr::column_of(schema, i)).collect();
        let behind_keys = width + matches.len();
        matches.extend((behind_keys..schema.len()).map(|i| Expr::column_of(schema, i)));
        relation.node = expanded.node;
        relation.columns.extend(expanded.columns.into_iter().skip(behind_keys));
        Ok(Keys { node: relation.node, matches, sources })
    }

    fn group_window(&mut self, relation: Relation, window: &GroupWindow) -> Result<Relation, SqlError> {
        let scope = Scope { columns: relation.columns.clone(), session: self.settings };
        let time = binder::bind_scalar(&window.arguments[0], &scope).map_err(|e| e.or_at(window.span))?;
        let time_column = time.as_column().ok_or_else(|| {
            SqlError::validation_at("the first argument of a group window is a time attribute", window.span)
        })?;
        let lengths = window.arguments[1..]
            .iter()
            .map(|argument| self.window_length(argument, false))
            .collect::<Result<Vec<_>, _>>()?;
        let (kind, slide, size) = match lengths.as_slice() {
            [size] => (WindowKind::Tumble, *size, *size),
            [slide, size] => (WindowKind::Hop, *slide, *size),
            _ => return Err(SqlError::Internal("a group window has unexpected arguments".to_owned())),
        };
        let made = self.make_window(kind, time_column, slide, size, 0, &relation, window.span)?;
        let mut assigned = self.assign_windows(relation, made)?;
        let first = assigned.columns.len() - WINDOW_COLUMNS.len();
        for (column, name) in assigned.columns[first..].iter_mut().zip(WINDOW_COLUMNS) {
            name.clone_into(&mut column.name);
        }
        Ok(assigned)
    }
}

/// Refuses aggregate functions that are typed but cannot be computed yet.
fn check_calls(calls: &[BoundAggregate], span: Span) -> Result<(), SqlError> {
    match calls.iter().find(|call| AggregateFunction::parse(&call.function).is_none()) {
        Some(call) => Err(SqlError::unsupported(format!("the aggregate function {} is", call.function), span)),
        None => Ok(()),
    }
}

fn item_expr(item: &mut Item) -> Option<&mut Ast> {
    match &mut item.value {
        ItemValue::Expr(expr) => Some(expr.as_mut()),
        ItemValue::Column(..) => None,
    }
}

fn parse_group_by(group_by: &GroupByExpr) -> Result<GroupBy, SqlError> {
    let GroupByExpr::Expressions(exprs, modifiers) = group_by else {
        return Err(SqlError::unsupported("GROUP BY ALL is", group_by.span()));
    };
    if !modifiers.is_empty() {
        return Err(SqlError::parse(
            "WITH behind GROUP BY is not part of Flink SQL",
            crate::Position::of(group_by.span()),
        ));
    }
    let mut result = GroupBy { keys: Vec::new(), sets: vec![Vec::new()] };
    for expr in exprs {
        let sets = match expr {
            Ast::GroupingSets(sets) => sets.iter().map(|set| result.add(set)).collect(),
            Ast::Rollup(groups) => {
                let groups: Vec<Vec<usize>> = groups.iter().map(|g| result.add(g)).collect();
                (0..=groups.len()).rev().map(|n| groups[..n].concat()).collect()
            }
            Ast::Cube(groups) => {
                let groups: Vec<Vec<usize>> = groups.iter().map(|g| result.add(g)).collect();
                cube(&groups)
            }
            Ast::Tuple(keys) => vec![result.add(keys)],
            Ast::Nested(key) => vec![result.add(std::slice::from_ref(key.as_ref()))],
            key => vec![result.add(std::slice::from_ref(key))],
        };
        result.sets = product(&result.sets, &sets);
    }
    Ok(result)
}

impl GroupBy {
    /// The positions of `keys`, added where missing.
    fn add(&mut self, keys: &[Ast]) -> Vec<usize> {
        let mut positions = Vec::new();
        for key in keys {
            let text = key.to_string();
            let position = self.keys.iter().position(|k| k.to_string() == text).unwrap_or_else(|| {
                self.keys.push(key.clone());
                self.keys.len() - 1
            });
            positions.push(position);
        }
        positions
    }
}

/// All subsets, the whole first.
fn cube(groups: &[Vec<usize>]) -> Vec<Vec<usize>> {
    match groups.split_first() {
        None => vec![Vec::new()],
        Some((first, rest)) => {
            let rest = cube(rest);
            let with_first = rest.iter().map(|set| [first.as_slice(), set].concat());
            with_first.chain(rest.iter().cloned()).collect()
        }
    }
}

fn product(left: &[Vec<usize>], right: &[Vec<usize>]) -> Vec<Vec<usize>> {
    left.iter().flat_map(|l| right.iter().map(move |r| [l.as_slice(), r].concat())).collect()
}

/// `TUMBLE(ts, size)` or `HOP(ts, slide, size)` in GROUP BY.
struct GroupWindow {
    name: String,
    arguments: Vec<Ast>,
    span: Span,
}

/// Replaces a group window among the keys by the columns of its bounds.
fn take_group_window(group_by: &mut GroupBy) -> Result<Option<GroupWindow>, SqlError> {
    let of_key = |key: &Ast| match key {
        Ast::Function(function) => window_function(function).map(|name| (name, function.clone())),
        _ => None,
    };
    let Some((position, (name, function))) =
        group_by.keys.iter().enumerate().find_map(|(i, key)| Some((i, of_key(key)?)))
    else {
        return Ok(None);
    };
    let span = function.span();
    if name == "SESSION" {
        return Err(SqlError::unsupported("SESSION windows are", span));
    }
    let arguments: Vec<Ast> = plain_arguments(&function).unwrap_or_default().into_iter().cloned().collect();
    let expected = if name == "TUMBLE" { 2 } else { 3 };
    if arguments.len() != expected {
        return Err(SqlError::validation_at(format!("{name} in GROUP BY takes {expected} arguments"), span));
    }
    group_by.keys[position] = Ast::Identifier(Ident::new(WINDOW_COLUMNS[0]));
    for column in &WINDOW_COLUMNS[1..] {
        group_by.keys.push(Ast::Identifier(Ident::new(*column)));
        let added = group_by.keys.len() - 1;
        group_by.sets.iter_mut().filter(|set| set.contains(&position)).for_each(|set| set.push(added));
    }
    Ok(Some(GroupWindow { name, arguments, span }))
}

fn window_function(function: &Function) -> Option<String> {
    let name = function.name.to_string().to_ascii_uppercase();
    matches!(name.as_str(), "TUMBLE" | "HOP" | "SESSION").then_some(name)
}

/// `TUMBLE_START(ts, size)` and its like become columns.
fn replace_auxiliary_functions(expr: &mut Ast, window: &GroupWindow) -> Result<(), SqlError> {
    let expected = texts(&window.arguments.iter().collect::<Vec<_>>());
    let result = visit_expressions_mut(expr, |e| {
        let Ast::Function(function) = e else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_ascii_uppercase();
        let Some(suffix) = name.strip_prefix(&format!("{}_", window.name)) else { return ControlFlow::Continue(()) };
        let column = match suffix {
            "START" => WINDOW_COLUMNS[0],
            "END" => WINDOW_COLUMNS[1],
            "ROWTIME" => WINDOW_COLUMNS[2],
            "PROCTIME" => {
                let span = function.span();
                return ControlFlow::Break(SqlError::unsupported("windows over processing time are", span));
            }
            _ => return ControlFlow::Continue(()),
        };
        if plain_arguments(function).map(|arguments| texts(&arguments)).as_ref() != Some(&expected) {
            let message = format!("{name} needs the same arguments as {} in GROUP BY", window.name);
            return ControlFlow::Break(SqlError::validation_at(message, function.span()));
        }
        *e = Ast::Identifier(Ident::new(column));
        ControlFlow::Continue(())
    });
    match result {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn texts(exprs: &[&Ast]) -> Vec<String> {
    exprs.iter().map(ToString::to_string).collect()
}

/// GROUPING(...) or GROUPING_ID(...): for each argument its position among the keys.
struct GroupingCall {
    text: String,
    keys: Vec<usize>,
}

impl GroupingCall {
    /// One bit an argument, the first highest: 1 where the set leaves the key out.
    fn value(&self, set: &[usize]) -> i64 {
        self.keys.iter().fold(0, |bits, key| bits << 1 | i64::from(!set.contains(key)))
    }
}

fn grouping_column(i: usize) -> String {
    format!("$grouping{i}")
}

/// GROUPING functions become columns.
fn replace_grouping_functions(
    group_by: &GroupBy,
    items: &mut [Item],
    having: &mut Option<Ast>,
) -> Result<Vec<GroupingCall>, SqlError> {
    let keys: Vec<String> = group_by.keys.iter().map(ToString::to_string).collect();
    let mut calls: Vec<GroupingCall> = Vec::new();
    let exprs = items.iter_mut().filter_map(item_expr).chain(having.as_mut());
    for expr in exprs {
        let result = visit_expressions_mut(expr, |e| {
            let Ast::Function(function) = e else { return ControlFlow::Continue(()) };
            let name = function.name.to_string().to_ascii_uppercase();
            if name != "GROUPING" && name != "GROUPING_ID" && name != "GROUP_ID" {
                return ControlFlow::Continue(());
            }
            let arguments = texts(&plain_arguments(function).unwrap_or_default());
            let positions: Option<Vec<usize>> = arguments.iter().map(|a| keys.iter().position(|k| k == a)).collect();
            let Some(positions) = positions else {
                let message = format!("the arguments of {name} must be expressions of GROUP BY");
                return ControlFlow::Break(SqlError::validation_at(message, function.span()));
            };
            let text = format!("{name}({})", arguments.join(","));
            let number = calls.iter().position(|c| c.text == text).unwrap_or_else(|| {
                calls.push(GroupingCall { text, keys: positions });
                calls.len() - 1
            });
            *e = Ast::Identifier(Ident::new(grouping_column(number)));
            ControlFlow::Continue(())
        });
        if let ControlFlow::Break(error) = result {
            return Err(error);
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cube_and_rollup() {
        assert_eq!(cube(&[vec![0], vec![1]]), [vec![0, 1], vec![0], vec![1], vec![]]);
        assert_eq!(product(&[vec![7]], &[vec![0], vec![]]), [vec![7, 0], vec![7]]);
        let call = GroupingCall { text: String::new(), keys: vec![0, 1] };
        assert_eq!([call.value(&[0, 1]), call.value(&[0]), call.value(&[1]), call.value(&[])], [0, 1, 2, 3]);
    }
}
