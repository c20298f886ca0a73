//! SELECT: items, filter, and whether rows are grouped.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use hurtig_graph::{Expr, LogicalType};
use sqlparser::ast::{
    Distinct, Expr as Ast, GroupByExpr, InTarget, Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned,
    WildcardAdditionalOptions, visit_expressions,
};
use sqlparser::tokenizer::Span;

use super::node::Projection;
use super::query::{Environment, Relation};
use super::{NodeId, Planner, object_name};
use crate::binder::{self, Scope, ScopeColumn};
use crate::error::SqlError;
use crate::parser::{is_reserved, reserved};

/// A column of a SELECT list.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub name: String,
    pub value: ItemValue,
}

#[derive(Debug, Clone)]
pub(super) enum ItemValue {
    Expr(Box<Ast>),
    /// Of `*`.
    Column(ScopeColumn, Span),
}

impl Planner<'_> {
    pub(super) fn select(&mut self, select: &Select, env: &Environment) -> Result<Relation, SqlError> {
        reject_clauses(select)?;
        reject_expressions(select)?;
        let input = self.from(&select.from, env)?;
        let items = expand(select, &input)?;
        let relation = if is_grouped(select) {
            self.grouped_select(select, input, items)?
        } else {
            self.plain_select(select, &input, &items)?
        };
        match &select.distinct {
            None | Some(Distinct::All) => Ok(relation),
            Some(Distinct::Distinct) => self.distinct(relation),
            Some(_) => Err(SqlError::unsupported("DISTINCT ON is", select.span())),
        }
    }

    fn plain_select(&mut self, select: &Select, input: &Relation, items: &[Item]) -> Result<Relation, SqlError> {
        let filter = self.bind_filter(select.selection.as_ref(), "WHERE", input)?;
        let scope = Scope { columns: input.columns.clone(), session: self.settings };
        let projections = items
            .iter()
            .map(|item| {
                let expr = match &item.value {
                    ItemValue::Expr(expr) => binder::bind_scalar(expr, &scope).map_err(|e| e.or_at(expr.span()))?,
                    ItemValue::Column(column, _) => Expr::column(column.index, column.data_type.clone()),
                };
                Ok(Projection { name: item.name.clone(), expr })
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        let node = self.project(input.node, filter, projections)?;
        Ok(Relation::of_node(&self.plan, node, None))
    }

    /// A Calc, unless it would change nothing.
    pub(super) fn project(
        &mut self,
        input: NodeId,
        filter: Option<Expr>,
        projections: Vec<Projection>,
    ) -> Result<NodeId, SqlError> {
        let same = projections == self.plan.identity(input);
        self.plan.calc(input, filter, if same { None } else { Some(projections) })
    }

    /// A condition over `input`.
    pub(super) fn bind_filter(
        &self,
        condition: Option<&Ast>,
        clause: &str,
        input: &Relation,
    ) -> Result<Option<Expr>, SqlError> {
        let Some(condition) = condition else { return Ok(None) };
        let scope = Scope { columns: input.columns.clone(), session: self.settings };
        let bound = binder::bind_scalar(condition, &scope).map_err(|e| e.or_at(condition.span()))?;
        check_condition(&bound, clause, condition.span())?;
        Ok(Some(bound))
    }
}

/// Conditions are BOOLEAN.
pub(super) fn check_condition(bound: &Expr, clause: &str, span: Span) -> Result<(), SqlError> {
    match bound.data_type.logical {
        LogicalType::Boolean | LogicalType::Null => Ok(()),
        ref other => {
            Err(SqlError::validation_at(format!("the condition of {clause} must be BOOLEAN, not {other}"), span))
        }
    }
}

fn is_grouped(select: &Select) -> bool {
    let by = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
    };
    let of_item = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => contains_aggregate(expr),
        _ => false,
    };
    by || select.having.is_some() || select.projection.iter().any(of_item)
}

/// Whether an aggregate function is called in `expr`, outside subqueries and OVER.
pub(super) fn contains_aggregate(expr: &Ast) -> bool {
    let found = visit_expressions(expr, |e| match e {
        Ast::Function(function) if function.over.is_none() && binder::is_aggregate(&function.name.to_string()) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// The columns of the SELECT list, `*` expanded, under distinct names.
fn expand(select: &Select, input: &Relation) -> Result<Vec<Item>, SqlError> {
    let mut items = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = name_of(expr).unwrap_or_else(|| format!("EXPR${}", items.len()));
                items.push(Item { name, value: ItemValue::Expr(Box::new(expr.clone())) });
            }
            SelectItem::ExprWithAlias { alias, .. } if alias.quote_style.is_none() && is_reserved(&alias.value) => {
                return Err(reserved(&alias.value, alias.span));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                items.push(Item { name: alias.value.clone(), value: ItemValue::Expr(Box::new(expr.clone())) });
            }
            SelectItem::Wildcard(options) => {
                reject_wildcard_options(options, item.span())?;
                if input.columns.is_empty() {
                    return Err(SqlError::validation_at("SELECT * needs FROM", item.span()));
                }
                items.extend(input.columns.iter().map(|c| whole_column(c, item.span())));
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                reject_wildcard_options(options, item.span())?;
                let qualifier = object_name(name)?.pop();
                let before = items.len();
                let of_table = input.columns.iter().filter(|c| c.qualifier == qualifier);
                items.extend(of_table.map(|c| whole_column(c, item.span())));
                if items.len() == before {
                    return Err(SqlError::validation_at(format!("table '{name}' not found in FROM"), item.span()));
                }
            }
            SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                return Err(SqlError::unsupported("this form of a SELECT item is", item.span()));
            }
        }
    }
    make_unique(&mut items);
    Ok(items)
}

fn whole_column(column: &ScopeColumn, span: Span) -> Item {
    Item { name: column.name.clone(), value: ItemValue::Column(column.clone(), span) }
}

/// The name that an expression without alias gets.
fn name_of(expr: &Ast) -> Option<String> {
    match expr {
        Ast::Identifier(ident) => Some(ident.value.clone()),
        Ast::CompoundIdentifier(idents) => idents.last().map(|i| i.value.clone()),
        _ => None,
    }
}

/// Later columns of a name that is taken get a number behind it.
fn make_unique(items: &mut [Item]) {
    let mut taken = BTreeSet::new();
    for item in items {
        let mut name = item.name.clone();
        let mut number = 0;
        while !taken.insert(name.clone()) {
            name = format!("{}{number}", item.name);
            number += 1;
        }
        item.name = name;
    }
}

fn reject_wildcard_options(options: &WildcardAdditionalOptions, span: Span) -> Result<(), SqlError> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { Ok(()) } else { Err(SqlError::unsupported("a modifier of '*' is", span)) }
}

fn reject_clauses(select: &Select) -> Result<(), SqlError> {
    let span = select.span();
    if let Some(qualify) = &select.qualify {
        return Err(SqlError::unsupported("QUALIFY is", qualify.span()));
    }
    if !select.named_window.is_empty() {
        return Err(SqlError::unsupported("WINDOW clauses are", span));
    }
    let foreign = select.top.is_some()
        || select.into.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.value_table_mode.is_some();
    if foreign {
        return Err(SqlError::parse("a clause of this SELECT is not part of Flink SQL", crate::Position::of(span)));
    }
    Ok(())
}

/// Refuses OVER and subqueries in expressions, by name and place.
fn reject_expressions(select: &Select) -> Result<(), SqlError> {
    let check = |e: &Ast| match e {
        Ast::Function(function) if function.over.is_some() => {
            ControlFlow::Break(SqlError::unsupported("OVER windows (Top-N and ranking included) are", e.span()))
        }
        Ast::In { target: InTarget::Subquery(_), .. } => {
            ControlFlow::Break(SqlError::unsupported("IN with a subquery is", e.span()))
        }
        Ast::Exists { .. } => ControlFlow::Break(SqlError::unsupported("EXISTS is", e.span())),
        Ast::Subquery(_) => ControlFlow::Break(SqlError::unsupported("subqueries in expressions are", e.span())),
        Ast::AnyOp { .. } | Ast::AllOp { .. } => {
            ControlFlow::Break(SqlError::unsupported("ANY, SOME and ALL are", e.span()))
        }
        _ => ControlFlow::Continue(()),
    };
    let of_items = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    for expr in of_items.chain(&select.selection).chain(&select.having) {
        if let ControlFlow::Break(error) = visit_expressions(expr, check) {
            return Err(error);
        }
    }
    Ok(())
}
