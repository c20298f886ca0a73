//! Queries to nodes: set operations, WITH, VALUES and what stands in FROM.

use hurtig_graph::{DataType, Expr, ExprKind, Literal, LogicalType, RowField, RowSchema};
use sqlparser::ast::{
    Query, SetExpr, SetOperator, SetQuantifier, Spanned, TableAlias, TableFactor, TableWithJoins, Values,
};
use sqlparser::tokenizer::Span;

use super::node::{NodeKind, Projection, Source};
use super::window::{WindowCall, options_hint, plain_arguments};
use super::{NodeId, Plan, Planner, object_name};
use crate::binder::{self, Scope, ScopeColumn};
use crate::catalog::CatalogObject;
use crate::error::SqlError;
use crate::parser::{Name, OPTIONS_HINT};

/// A node and the names by which its columns are known.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub node: NodeId,
    pub columns: Vec<ScopeColumn>,
}

impl Relation {
    /// All columns of `node` under the names of its schema.
    pub(crate) fn of_node(plan: &Plan, node: NodeId, qualifier: Option<&str>) -> Relation {
        let column = |(index, field): (usize, &RowField)| ScopeColumn {
            qualifier: qualifier.map(str::to_owned),
            name: field.name.clone(),
            data_type: field.data_type.clone(),
            time: field.time,
            index,
        };
        Relation { node, columns: plan.schema(node).fields.iter().enumerate().map(column).collect() }
    }

    /// With the names that the first columns have in `other`.
    pub(super) fn with_names_of(mut self, other: &Relation) -> Relation {
        for (column, named) in self.columns.iter_mut().zip(&other.columns) {
            column.name.clone_from(&named.name);
        }
        self
    }

    /// Under another table name and, if given, other column names.
    fn aliased(mut self, alias: &TableAlias) -> Result<Relation, SqlError> {
        if !alias.columns.is_empty() && alias.columns.len() != self.columns.len() {
            let message = format!(
                "the alias '{}' names {} columns, but the table has {}",
                alias.name.value,
                alias.columns.len(),
                self.columns.len()
            );
            return Err(SqlError::validation_at(message, alias.name.span));
        }
        for (i, column) in self.columns.iter_mut().enumerate() {
            column.qualifier = Some(alias.name.value.clone());
            if let Some(named) = alias.columns.get(i) {
                column.name.clone_from(&named.name.value);
            }
        }
        Ok(self)
    }

    fn qualified(mut self, qualifier: &str) -> Relation {
        self.columns.iter_mut().for_each(|c| c.qualifier = Some(qualifier.to_owned()));
        self
    }

    /// The schema under the relation's own names.
    pub(crate) fn schema(&self) -> RowSchema {
        let field = |c: &ScopeColumn| RowField { name: c.name.clone(), data_type: c.data_type.clone(), time: c.time };
        RowSchema::new(self.columns.iter().map(field).collect())
    }
}

/// The common table expressions in sight, innermost last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    ctes: Vec<(String, Relation)>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&Relation> {
        self.ctes.iter().rev().find(|(n, _)| n == name).map(|(_, relation)| relation)
    }
}

impl Planner<'_> {
    /// A whole query; its columns are those of the node, in order.
    pub(crate) fn query(&mut self, query: &Query, env: &Environment) -> Result<Relation, SqlError> {
        reject_clauses(query)?;
        let mut env = env.clone();
        if let Some(with) = &query.with {
            if with.recursive {
                return Err(SqlError::unsupported("recursive common table expressions are", with.span()));
            }
            for cte in &with.cte_tables {
                let relation = self.query(&cte.query, &env)?.aliased(&cte.alias)?;
                env.ctes.push((cte.alias.name.value.clone(), relation));
            }
        }
        self.set_expression(&query.body, &env)
    }

    fn set_expression(&mut self, body: &SetExpr, env: &Environment) -> Result<Relation, SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, env),
            SetExpr::Query(query) => self.query(query, env),
            SetExpr::Values(values) => self.values(values),
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                self.set_operation(*op, *set_quantifier, left, right, env)
            }
            SetExpr::Table(_) => Err(SqlError::unsupported("TABLE as a query is", body.span())),
            _ => Err(SqlError::validation_at("a statement that changes data is not a query", body.span())),
        }
    }

    fn set_operation(
        &mut self,
        op: SetOperator,
        quantifier: SetQuantifier,
        left: &SetExpr,
        right: &SetExpr,
        env: &Environment,
    ) -> Result<Relation, SqlError> {
        if op != SetOperator::Union {
            return Err(SqlError::unsupported(format!("{op} is"), right.span()));
        }
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::None | SetQuantifier::Distinct => false,
            _ => return Err(SqlError::unsupported("UNION BY NAME is", right.span())),
        };
        let mut inputs = Vec::new();
        self.union_inputs(left, all, env, &mut inputs)?;
        inputs.push(self.set_expression(right, env)?);
        let union = self.union_all(inputs, right.span())?;
        if all { Ok(union) } else { self.distinct(union) }
    }

    /// The operands of nested UNION ALLs, in order.
    fn union_inputs(
        &mut self,
        body: &SetExpr,
        all: bool,
        env: &Environment,
        inputs: &mut Vec<Relation>,
    ) -> Result<(), SqlError> {
        if let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: SetQuantifier::All, left, right } = body
            && all
        {
            self.union_inputs(left, all, env, inputs)?;
            inputs.push(self.set_expression(right, env)?);
            return Ok(());
        }
        inputs.push(self.set_expression(body, env)?);
        Ok(())
    }

    /// Merges relations under the column names of the first, casting to common types.
    pub(crate) fn union_all(&mut self, inputs: Vec<Relation>, span: Span) -> Result<Relation, SqlError> {
        let width = inputs[0].columns.len();
        if let Some(other) = inputs.iter().find(|r| r.columns.len() != width) {
            let message = format!(
                "UNION needs equally many columns, but one side has {width} and another {}",
                other.columns.len()
            );
            return Err(SqlError::validation_at(message, span));
        }
        let mut types = Vec::with_capacity(width);
        for i in 0..width {
            let sides: Vec<DataType> = inputs.iter().map(|r| r.columns[i].data_type.clone()).collect();
            let common = binder::common_type(&sides).ok_or_else(|| {
                let sides: Vec<String> = sides.iter().map(|t| t.logical.to_string()).collect();
                let message = format!(
                    "column {} of UNION has the types {}, which have none in common",
                    i + 1,
                    sides.join(" and ")
                );
                SqlError::validation_at(message, span)
            })?;
            types.push(common);
        }
        let names: Vec<String> = inputs[0].columns.iter().map(|c| c.name.clone()).collect();
        let nodes = inputs.iter().map(|r| self.conform(r, &names, &types)).collect::<Result<Vec<_>, _>>()?;
        let node = self.plan.add(NodeKind::Union, nodes)?;
        Ok(Relation::of_node(&self.plan, node, None))
    }

    /// A node with exactly the columns of `relation`, under `names`, cast to `types`.
    pub(super) fn conform(
        &mut self,
        relation: &Relation,
        names: &[String],
        types: &[DataType],
    ) -> Result<NodeId, SqlError> {
        let projections: Vec<Projection> = relation
            .columns
            .iter()
            .zip(names.iter().zip(types))
            .map(|(column, (name, data_type))| {
                let expr = Expr::column(column.index, column.data_type.clone());
                let target = data_type.with_nullable(column.data_type.nullable);
                Projection { name: name.clone(), expr: expr.cast_to(target) }
            })
            .collect();
        if projections == self.plan.identity(relation.node) {
            return Ok(relation.node);
        }
        self.plan.calc(relation.node, None, Some(projections))
    }

    fn values(&mut self, values: &Values) -> Result<Relation, SqlError> {
        let scope = Scope { columns: Vec::new(), session: self.settings };
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let row: Vec<Expr> = row
                .content
                .iter()
                .map(|expr| binder::bind_scalar(expr, &scope).map_err(|e| e.or_at(expr.span())))
                .collect::<Result<_, _>>()?;
            rows.push(row);
        }
        let width = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != width) {
            return Err(SqlError::validation_at("all rows of VALUES need equally many columns", values.span()));
        }
        for i in 0..width {
            let types: Vec<DataType> = rows.iter().map(|row| row[i].data_type.clone()).collect();
            let common = binder::common_type(&types).ok_or_else(|| {
                let message = format!("column {} of VALUES has values of types that have none in common", i + 1);
                SqlError::validation_at(message, values.span())
            })?;
            for row in &mut rows {
                let nullable = row[i].data_type.nullable;
                row[i] = row[i].clone().cast_to(common.with_nullable(nullable));
            }
        }
        let names: Vec<String> = (0..width).map(|i| format!("EXPR${i}")).collect();
        self.rows(&rows, &names)
    }

    /// A relation of the given rows: a generator of row numbers and a choice by number.
    pub(crate) fn rows(&mut self, rows: &[Vec<Expr>], names: &[String]) -> Result<Relation, SqlError> {
        let generator = self.row_numbers(rows.len())?;
        let number = Expr::column_of(self.plan.schema(generator), 0);
        let projections = names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let cells: Vec<&Expr> = rows.iter().map(|row| &row[i]).collect();
                Projection { name: name.clone(), expr: choose(&number, &cells) }
            })
            .collect();
        let node = self.plan.calc(generator, None, Some(projections))?;
        Ok(Relation::of_node(&self.plan, node, None))
    }

    /// A source of the numbers from 0 to `count`, exclusive, in order.
    fn row_numbers(&mut self, count: usize) -> Result<NodeId, SqlError> {
        let pairs = [
            ("connector", "datagen".to_owned()),
            ("rows-per-second", "1000000000".to_owned()),
            ("fields.row.kind", "sequence".to_owned()),
            ("fields.row.start", "0".to_owned()),
            ("fields.row.end", count.saturating_sub(1).to_string()),
        ];
        let options = pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let physical = RowSchema::new(vec![RowField::new("row", LogicalType::BigInt.not_null())]);
        let info = self.connectors.source(&options, &physical).map_err(|e| SqlError::connector("VALUES", e))?;
        let source = Source {
            table: "VALUES".to_owned(),
            options,
            physical,
            projection: vec![0],
            info,
            primary_key: None,
            single: true,
        };
        self.plan.add(NodeKind::Source(source), Vec::new())
    }

    /// What stands in FROM; without FROM one row without columns.
    pub(super) fn from(&mut self, from: &[TableWithJoins], env: &Environment) -> Result<Relation, SqlError> {
        match from {
            [] => {
                let node = self.row_numbers(1)?;
                Ok(Relation { node, columns: Vec::new() })
            }
            [table] => {
                if let Some(join) = table.joins.first() {
                    let span = join.relation.span();
                    return Err(SqlError::unsupported("joins are", span));
                }
                self.table_factor(&table.relation, env)
            }
            [_, second, ..] => Err(SqlError::unsupported("joins are", second.relation.span())),
        }
    }

    fn table_factor(&mut self, factor: &TableFactor, env: &Environment) -> Result<Relation, SqlError> {
        let span = factor.span();
        if let Some(call) = WindowCall::of(factor)? {
            let relation = self.window_table(&call, env)?;
            return match alias_of(factor) {
                Some(alias) => relation.aliased(alias),
                None => Ok(relation),
            };
        }
        match factor {
            TableFactor::Table { name, alias, args, version, sample, with_ordinality, with_hints, .. } => {
                if version.is_some() {
                    return Err(SqlError::unsupported("FOR SYSTEM_TIME AS OF (temporal joins, time travel) is", span));
                }
                if sample.is_some() || *with_ordinality || !with_hints.is_empty() {
                    return Err(SqlError::unsupported("TABLESAMPLE, WITH ORDINALITY and WITH hints are", span));
                }
                let hints = match args {
                    None => Vec::new(),
                    Some(args) => match hint_of(&args.args)? {
                        Some(hints) => hints,
                        None => return Err(SqlError::unsupported(format!("the table function {name} is"), span)),
                    },
                };
                let parts = object_name(name)?;
                let relation = self.named_relation(&Name { parts: parts.clone(), span: name.span() }, &hints, env)?;
                match alias {
                    Some(alias) => relation.aliased(alias),
                    None => Ok(relation.qualified(parts.last().map_or("", String::as_str))),
                }
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                if *lateral || sample.is_some() {
                    return Err(SqlError::unsupported("LATERAL and TABLESAMPLE are", span));
                }
                let relation = self.query(subquery, env)?;
                match alias {
                    Some(alias) => relation.aliased(alias),
                    None => Ok(relation),
                }
            }
            TableFactor::NestedJoin { .. } => Err(SqlError::unsupported("joins are", span)),
            TableFactor::UNNEST { .. } => Err(SqlError::unsupported("UNNEST is", span)),
            TableFactor::MatchRecognize { .. } => Err(SqlError::unsupported("MATCH_RECOGNIZE is", span)),
            TableFactor::TableFunction { .. } | TableFactor::Function { .. } => {
                Err(SqlError::unsupported("table functions other than TUMBLE, HOP and CUMULATE are", span))
            }
            _ => Err(SqlError::unsupported("this kind of table in FROM is", span)),
        }
    }

    /// A common table expression, a table or a view.
    pub(super) fn named_relation(
        &mut self,
        name: &Name,
        hints: &[(String, String)],
        env: &Environment,
    ) -> Result<Relation, SqlError> {
        if let [only] = name.parts.as_slice()
            && let Some(relation) = env.get(only)
        {
            reject_hints(hints, name)?;
            return Ok(relation.clone());
        }
        let catalog = self.catalog;
        let full = self.full_name(name);
        match catalog.find(&full)? {
            CatalogObject::Table(table) => {
                let node = self.scan(table, hints, name.span)?;
                Ok(Relation::of_node(&self.plan, node, None))
            }
            CatalogObject::View(view) => {
                reject_hints(hints, name)?;
                self.view(&view.clone())
            }
        }
    }

    /// `name` as seen from the database in which names are looked up.
    fn full_name(&self, name: &Name) -> Name {
        match name.parts.as_slice() {
            [object] => Name { parts: vec![self.database.clone(), object.clone()], span: name.span },
            _ => name.clone(),
        }
    }

    fn view(&mut self, view: &crate::catalog::View) -> Result<Relation, SqlError> {
        if self.open_views.contains(&view.id) {
            return Err(SqlError::validation(format!("the view '{}' contains itself", view.id)));
        }
        let query = crate::parser::parse_query(&view.text)?;
        let database = std::mem::replace(&mut self.database, view.database.clone());
        self.open_views.push(view.id.clone());
        let result = self.query(&query, &Environment::default());
        self.open_views.pop();
        self.database = database;
        let mut relation = result.map_err(|e| in_view(&view.id.to_string(), e))?;
        if relation.columns.len() != view.schema.len() {
            return Err(SqlError::validation(format!("the view '{}' has changed: create it again", view.id)));
        }
        for (column, field) in relation.columns.iter_mut().zip(&view.schema.fields) {
            column.name.clone_from(&field.name);
        }
        Ok(relation)
    }
}

/// Places within a view's text would be read as places of the statement, so they are dropped.
fn in_view(view: &str, error: SqlError) -> SqlError {
    match error {
        SqlError::Parse { message, .. } => {
            SqlError::Parse { message: format!("view '{view}': {message}"), position: None }
        }
        SqlError::Validation { message, .. } => SqlError::validation(format!("view '{view}': {message}")),
        SqlError::Unsupported { construct, .. } => {
            SqlError::Unsupported { construct: format!("in view '{view}', {construct}"), position: None }
        }
        other => other,
    }
}

fn reject_hints(hints: &[(String, String)], name: &Name) -> Result<(), SqlError> {
    if hints.is_empty() {
        return Ok(());
    }
    Err(SqlError::validation_at(
        "an OPTIONS hint can only be given for a table, not for a view or WITH query",
        name.span,
    ))
}

fn alias_of(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. } | TableFactor::TableFunction { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

fn hint_of(arguments: &[sqlparser::ast::FunctionArg]) -> Result<Option<Vec<(String, String)>>, SqlError> {
    use sqlparser::ast::{Expr as Ast, FunctionArg, FunctionArgExpr};
    match arguments {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Function(hint)))] if hint.name.to_string() == OPTIONS_HINT => {
            if plain_arguments(hint).is_none() {
                return Ok(None);
            }
            options_hint(hint).map(Some)
        }
        _ => Ok(None),
    }
}

/// The cell of the row with that number.
fn choose(number: &Expr, cells: &[&Expr]) -> Expr {
    let Some((last, others)) = cells.split_last() else {
        return Expr::literal(Literal::Null, LogicalType::Null.nullable());
    };
    if others.iter().all(|cell| cell == last) {
        return (*last).clone();
    }
    let nullable = cells.iter().any(|c| c.data_type.nullable);
    let data_type = last.data_type.with_nullable(nullable);
    let branches = others
        .iter()
        .enumerate()
        .map(|(i, cell)| {
            let row = Expr::literal(Literal::Int(i as i64), LogicalType::BigInt.not_null());
            let condition = Expr::call("=", vec![number.clone(), row], LogicalType::Boolean.not_null());
            (condition, (*cell).clone().cast_to(data_type.clone()))
        })
        .collect();
    let otherwise = Some(Box::new((*last).clone().cast_to(data_type.clone())));
    Expr { kind: ExprKind::Case { branches, otherwise }, data_type }
}

fn reject_clauses(query: &Query) -> Result<(), SqlError> {
    if let Some(order_by) = &query.order_by {
        return Err(SqlError::unsupported("ORDER BY is", order_by.span()));
    }
    if let Some(limit) = &query.limit_clause {
        return Err(SqlError::unsupported("LIMIT and OFFSET are", limit.span()));
    }
    if let Some(fetch) = &query.fetch {
        return Err(SqlError::unsupported("FETCH is", fetch.span()));
    }
    if !query.locks.is_empty()
        || query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
    {
        return Err(SqlError::parse("FOR, SETTINGS and FORMAT clauses are not part of Flink SQL", None));
    }
    Ok(())
}
