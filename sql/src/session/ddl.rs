//! CREATE, DROP and ALTER: definitions checked and typed before they enter the catalog.

use std::collections::BTreeSet;
use std::sync::Arc;

use hurtig_graph::connector::Options;
use hurtig_graph::{DataType, Expr, ExprKind, LogicalType, RowSchema, TimeAttribute};
use sqlparser::ast::{Query, Spanned};

use super::{Session, StatementResult};
use crate::binder::{self, Scope, ScopeColumn};
use crate::catalog::{CatalogObject, ColumnKind, ObjectIdentifier, PrimaryKey, Table, TableColumn, View, Watermark};
use crate::error::SqlError;
use crate::parser::{
    ColumnDef, ColumnDefKind, CreateTable, CreateView, Drop, DropKind, Insert, LikeClause, Name, PrimaryKeyDef,
    TableChange, WatermarkDef,
};
use crate::planner::Environment;

/// A definition being put together.
struct Draft {
    columns: Vec<DraftColumn>,
    watermark: Option<WatermarkDef>,
    inherited_watermark: Option<Watermark>,
    primary_key: Option<PrimaryKeyDef>,
    inherited_key: Option<PrimaryKey>,
    partitioned_by: Vec<String>,
    options: Options,
}

/// A column as written, or as taken from another table.
enum DraftColumn {
    New(Box<ColumnDef>),
    Inherited(TableColumn),
}

impl DraftColumn {
    fn name(&self) -> &str {
        match self {
            DraftColumn::New(column) => &column.name,
            DraftColumn::Inherited(column) => &column.name,
        }
    }
}

impl Session {
    pub(super) fn create_table(&mut self, create: &CreateTable) -> Result<StatementResult, SqlError> {
        let id = self.catalog.identify(&create.name.parts);
        let mut draft = self.inherited(create.like.as_ref())?;
        self.add_own_parts(&mut draft, create)?;
        let mut query_columns = Vec::new();
        if let Some(query) = &create.query {
            let schema = self.query_schema(query)?;
            query_columns = schema.fields.iter().map(|f| f.name.clone()).collect();
            draft.columns = columns_of_query(draft.columns, &schema, create)?;
        }
        let table = self.finish_table(id.clone(), draft, create)?;
        let object = CatalogObject::Table(Arc::new(table));
        let added = self
            .catalog
            .add(&id, object, create.temporary, create.if_not_exists)
            .map_err(|e| e.or_at(create.name.span))?;
        match &create.query {
            Some(query) if added => self.insert(&[insert_of(create, query, query_columns)]),
            _ => Ok(StatementResult::Ok),
        }
    }

    /// What LIKE takes over.
    fn inherited(&self, like: Option<&LikeClause>) -> Result<Draft, SqlError> {
        let mut draft = Draft {
            columns: Vec::new(),
            watermark: None,
            inherited_watermark: None,
            primary_key: None,
            inherited_key: None,
            partitioned_by: Vec::new(),
            options: Options::new(),
        };
        let Some(like) = like else { return Ok(draft) };
        let CatalogObject::Table(table) = self.catalog.find(&like.name)? else {
            return Err(SqlError::validation_at("LIKE needs a table, not a view", like.name.span));
        };
        for (how, what) in &like.options {
            let can_overwrite = ["GENERATED", "METADATA", "OPTIONS", "WATERMARKS"].contains(&what.as_str());
            if how == "OVERWRITING" && !can_overwrite {
                return Err(SqlError::validation_at(format!("OVERWRITING {what} is not possible"), like.name.span));
            }
        }
        let included = |what: &str| {
            let rule = |wanted: &str| like.options.iter().rev().find(|(_, w)| w == wanted).map(|(how, _)| how.as_str());
            rule(what).or_else(|| rule("ALL")).is_none_or(|how| how != "EXCLUDING")
        };
        for column in &table.columns {
            let keep = match column.kind {
                ColumnKind::Physical => true,
                ColumnKind::Computed { .. } => included("GENERATED"),
                ColumnKind::Metadata { .. } => included("METADATA"),
            };
            if keep {
                draft.columns.push(DraftColumn::Inherited(column.clone()));
            }
        }
        if included("WATERMARKS") {
            draft.inherited_watermark.clone_from(&table.watermark);
        }
        if included("CONSTRAINTS") {
            draft.inherited_key.clone_from(&table.primary_key);
        }
        if included("PARTITIONS") {
            draft.partitioned_by.clone_from(&table.partitioned_by);
        }
        if included("OPTIONS") {
            draft.options.clone_from(&table.options);
        }
        // Positions move when columns are left out; expressions are kept by name.
        if draft.columns.len() != table.columns.len() {
            remap_inherited(&mut draft, table)?;
        }
        Ok(draft)
    }

    fn add_own_parts(&self, draft: &mut Draft, create: &CreateTable) -> Result<(), SqlError> {
        let overwrites = |what: &str| {
            create.like.as_ref().is_some_and(|l| l.options.iter().any(|(how, w)| how == "OVERWRITING" && w == what))
        };
        let includes_options =
            create.like.as_ref().is_some_and(|l| l.options.iter().any(|(how, w)| how == "INCLUDING" && w == "OPTIONS"));
        for column in &create.columns {
            let inherited = draft.columns.iter().position(|c| c.name() == column.name);
            match inherited {
                Some(position) if create.like.is_some() => {
                    let generated = matches!(column.kind, ColumnDefKind::Computed { .. }) && overwrites("GENERATED");
                    let metadata = matches!(column.kind, ColumnDefKind::Metadata { .. }) && overwrites("METADATA");
                    if !generated && !metadata {
                        let message = format!("column '{}' exists in the table of LIKE already", column.name);
                        return Err(SqlError::validation_at(message, column.span));
                    }
                    draft.columns[position] = DraftColumn::New(Box::new(column.clone()));
                }
                Some(_) => {
                    let message = format!("column '{}' is defined twice", column.name);
                    return Err(SqlError::validation_at(message, column.span));
                }
                None => draft.columns.push(DraftColumn::New(Box::new(column.clone()))),
            }
        }
        if let Some(watermark) = &create.watermark {
            if draft.inherited_watermark.is_some() && !overwrites("WATERMARKS") {
                let message = "the table of LIKE has a watermark already: use OVERWRITING or EXCLUDING WATERMARKS";
                return Err(SqlError::validation_at(message, watermark.span));
            }
            draft.inherited_watermark = None;
            draft.watermark = Some(watermark.clone());
        }
        if let Some(key) = &create.primary_key {
            if draft.inherited_key.is_some() {
                let message = "the table of LIKE has a primary key already: use EXCLUDING CONSTRAINTS";
                return Err(SqlError::validation_at(message, key.span));
            }
            draft.primary_key = Some(key.clone());
        }
        if !create.partitioned_by.is_empty() {
            if !draft.partitioned_by.is_empty() {
                let message = "the table of LIKE is partitioned already: use EXCLUDING PARTITIONS";
                return Err(SqlError::validation_at(message, create.name.span));
            }
            draft.partitioned_by.clone_from(&create.partitioned_by);
        }
        let mut own = BTreeSet::new();
        for (key, value) in &create.options {
            if !own.insert(key) {
                return Err(SqlError::validation_at(format!("option '{key}' is given twice"), create.name.span));
            }
            if includes_options && draft.options.contains_key(key) {
                let message = format!("option '{key}' exists in the table of LIKE already: use OVERWRITING OPTIONS");
                return Err(SqlError::validation_at(message, create.name.span));
            }
            draft.options.insert(key.clone(), value.clone());
        }
        Ok(())
    }

    fn query_schema(&self, query: &Query) -> Result<RowSchema, SqlError> {
        let mut planner = self.planner();
        Ok(planner.query(query, &Environment::default())?.schema())
    }

    fn finish_table(&self, id: ObjectIdentifier, draft: Draft, create: &CreateTable) -> Result<Table, SqlError> {
        let mut columns = self.typed_columns(draft.columns, create)?;
        let primary_key = match (&draft.primary_key, draft.inherited_key) {
            (Some(key), _) => Some(own_key(key, &columns)?),
            (None, inherited) => inherited,
        };
        for column in &mut columns {
            if primary_key.as_ref().is_some_and(|k| k.columns.contains(&column.name)) {
                column.data_type.nullable = false;
            }
        }
        for name in &draft.partitioned_by {
            if !columns.iter().any(|c| c.name == *name && matches!(c.kind, ColumnKind::Physical)) {
                let message = format!("partition column '{name}' is not a physical column of the table");
                return Err(SqlError::validation_at(message, create.name.span));
            }
        }
        let watermark = match &draft.watermark {
            Some(watermark) => Some(self.watermark(watermark, &columns)?),
            None => draft.inherited_watermark,
        };
        Ok(Table {
            id,
            columns,
            watermark,
            primary_key,
            comment: create.comment.clone(),
            partitioned_by: draft.partitioned_by,
            options: draft.options,
        })
    }

    /// Columns with types; computed ones see the physical and metadata columns.
    fn typed_columns(&self, drafts: Vec<DraftColumn>, create: &CreateTable) -> Result<Vec<TableColumn>, SqlError> {
        let stored: Vec<ScopeColumn> =
            drafts.iter().enumerate().filter_map(|(index, draft)| stored_column(index, draft)).collect();
        let scope = Scope { columns: stored, session: &self.settings };
        let mut columns = Vec::with_capacity(drafts.len());
        for draft in drafts {
            columns.push(match draft {
                DraftColumn::Inherited(column) => column,
                DraftColumn::New(column) => typed_column(*column, &scope)?,
            });
        }
        if columns.is_empty() && create.query.is_none() {
            return Err(SqlError::validation_at("the table has no columns", create.name.span));
        }
        Ok(columns)
    }

    fn watermark(&self, definition: &WatermarkDef, columns: &[TableColumn]) -> Result<Watermark, SqlError> {
        let position = columns.iter().position(|c| c.name == definition.column).ok_or_else(|| {
            let message = format!("the rowtime column '{}' is not a column of the table", definition.column);
            SqlError::validation_at(message, definition.span)
        })?;
        let logical = &columns[position].data_type.logical;
        if !matches!(logical, LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3)) {
            let message = format!(
                "invalid data type of time field for watermark definition: '{}' is {logical}, but must be TIMESTAMP(p) \
                 or TIMESTAMP_LTZ(p) with a precision p from 0 to 3",
                definition.column
            );
            return Err(SqlError::validation_at(message, definition.span));
        }
        let scope = Scope { columns: scope_of(columns), session: &self.settings };
        let expr = binder::bind_scalar(&definition.expr, &scope).map_err(|e| e.or_at(definition.expr.span()))?;
        let same_family = matches!(
            (logical, &expr.data_type.logical),
            (LogicalType::Timestamp(_), LogicalType::Timestamp(0..=3))
                | (LogicalType::TimestampLtz(_), LogicalType::TimestampLtz(0..=3))
        );
        if !same_family {
            let message = format!("the watermark expression must be {logical}, but is {}", expr.data_type.logical);
            return Err(SqlError::validation_at(message, definition.expr.span()));
        }
        Ok(Watermark { column: position, expr, text: definition.text.clone() })
    }

    pub(super) fn create_view(&mut self, create: &CreateView) -> Result<StatementResult, SqlError> {
        let mut schema = self.query_schema(&create.query)?;
        if !create.columns.is_empty() {
            if create.columns.len() != schema.len() {
                let message =
                    format!("the view names {} columns, but its query has {}", create.columns.len(), schema.len());
                return Err(SqlError::validation_at(message, create.name.span));
            }
            for (field, name) in schema.fields.iter_mut().zip(&create.columns) {
                field.name.clone_from(name);
            }
        }
        let mut names = BTreeSet::new();
        if let Some(field) = schema.fields.iter().find(|f| !names.insert(&f.name)) {
            let message = format!("the view has two columns named '{}'", field.name);
            return Err(SqlError::validation_at(message, create.name.span));
        }
        let id = self.catalog.identify(&create.name.parts);
        let view = View {
            id: id.clone(),
            text: create.text.clone(),
            schema,
            comment: create.comment.clone(),
            database: self.catalog.current_database().to_owned(),
        };
        let object = CatalogObject::View(Arc::new(view));
        self.catalog.add(&id, object, create.temporary, create.if_not_exists).map_err(|e| e.or_at(create.name.span))?;
        Ok(StatementResult::Ok)
    }

    pub(super) fn drop_object(&mut self, drop: &Drop) -> Result<StatementResult, SqlError> {
        let result = match drop.kind {
            DropKind::Database => self.catalog.drop_database(&drop.name.parts, drop.if_exists, drop.cascade),
            kind => {
                let id = self.catalog.identify(&drop.name.parts);
                self.catalog.remove(&id, kind == DropKind::View, drop.temporary, drop.if_exists).map(|_| ())
            }
        };
        result.map_err(|e| e.or_at(drop.name.span))?;
        Ok(StatementResult::Ok)
    }

    pub(super) fn alter_table(
        &mut self,
        name: &Name,
        if_exists: bool,
        change: TableChange,
    ) -> Result<StatementResult, SqlError> {
        let id = self.catalog.identify(&name.parts);
        let table = match self.catalog.get(&id) {
            None if if_exists => return Ok(StatementResult::Ok),
            _ => match self.catalog.find(name)? {
                CatalogObject::Table(table) => table.clone(),
                CatalogObject::View(view) => {
                    return Err(SqlError::validation_at(format!("'{}' is a view, not a table", view.id), name.span));
                }
            },
        };
        let mut changed = Table::clone(&table);
        match change {
            TableChange::Rename(new_name) => {
                let mut new_id = self.catalog.identify(&new_name);
                if new_name.len() == 1 {
                    new_id.database.clone_from(&id.database);
                }
                changed.id = new_id.clone();
                let object = CatalogObject::Table(Arc::new(changed));
                self.catalog.add(&new_id, object, false, false).map_err(|e| e.or_at(name.span))?;
                self.catalog.remove(&id, false, false, false).map_err(|e| e.or_at(name.span))?;
                return Ok(StatementResult::Ok);
            }
            TableChange::SetOptions(options) => changed.options.extend(options),
            TableChange::ResetOptions(keys) => {
                if keys.iter().any(|key| key == "connector") {
                    return Err(SqlError::validation_at("the option 'connector' cannot be reset", name.span));
                }
                keys.iter().for_each(|key| {
                    changed.options.remove(key);
                });
            }
        }
        self.catalog.replace(changed);
        Ok(StatementResult::Ok)
    }
}

/// The columns of a table in the scope of an expression.
fn scope_of(columns: &[TableColumn]) -> Vec<ScopeColumn> {
    let column = |(index, c): (usize, &TableColumn)| ScopeColumn {
        qualifier: None,
        name: c.name.clone(),
        data_type: c.data_type.clone(),
        time: TimeAttribute::None,
        index,
    };
    columns.iter().enumerate().map(column).collect()
}

/// The column as computed columns see it: they do not see each other.
fn stored_column(index: usize, draft: &DraftColumn) -> Option<ScopeColumn> {
    let data_type: DataType = match draft {
        DraftColumn::New(column) => match &column.kind {
            ColumnDefKind::Physical(data_type) | ColumnDefKind::Metadata { data_type, .. } => data_type.clone(),
            ColumnDefKind::Computed { .. } | ColumnDefKind::OfQuery => return None,
        },
        DraftColumn::Inherited(column) => match column.kind {
            ColumnKind::Computed { .. } => return None,
            ColumnKind::Physical | ColumnKind::Metadata { .. } => column.data_type.clone(),
        },
    };
    let name = draft.name().to_owned();
    Some(ScopeColumn { qualifier: None, name, data_type, time: TimeAttribute::None, index })
}

fn typed_column(column: ColumnDef, scope: &Scope<'_>) -> Result<TableColumn, SqlError> {
    let (data_type, kind) = match column.kind {
        ColumnDefKind::Physical(data_type) => (data_type, ColumnKind::Physical),
        ColumnDefKind::Metadata { data_type, key, is_virtual } => (data_type, ColumnKind::Metadata { key, is_virtual }),
        ColumnDefKind::Computed { expr, text } => {
            let bound = binder::bind_scalar(&expr, scope).map_err(|e| e.or_at(expr.span()))?;
            let proctime = matches!(&bound.kind, ExprKind::Call { function, .. } if function == "PROCTIME");
            (bound.data_type.clone(), ColumnKind::Computed { expr: bound, text, proctime })
        }
        ColumnDefKind::OfQuery => {
            let message = format!("column '{}' has no type", column.name);
            return Err(SqlError::validation_at(message, column.span));
        }
    };
    Ok(TableColumn { name: column.name, data_type, kind, comment: column.comment })
}

fn own_key(key: &PrimaryKeyDef, columns: &[TableColumn]) -> Result<PrimaryKey, SqlError> {
    for (i, name) in key.columns.iter().enumerate() {
        if key.columns[..i].contains(name) {
            return Err(SqlError::validation_at(format!("the primary key names '{name}' twice"), key.span));
        }
        if !columns.iter().any(|c| c.name == *name && matches!(c.kind, ColumnKind::Physical)) {
            let message = format!("'{name}' of the primary key is not a physical column of the table");
            return Err(SqlError::validation_at(message, key.span));
        }
    }
    let name = key.name.clone().unwrap_or_else(|| format!("PK_{}", key.columns.join("_")));
    Ok(PrimaryKey { name, columns: key.columns.clone() })
}

/// Moves the expressions of inherited parts to the columns that were kept.
fn remap_inherited(draft: &mut Draft, table: &Table) -> Result<(), SqlError> {
    let kept: Vec<String> = draft.columns.iter().map(|c| c.name().to_owned()).collect();
    let position = |old: usize| kept.iter().position(|name| *name == table.columns[old].name);
    let remap = |expr: &Expr| {
        let mut missing = None;
        expr.visit(&mut |e| {
            if let Some(column) = e.as_column()
                && position(column).is_none()
            {
                missing = Some(table.columns[column].name.clone());
            }
        });
        match missing {
            None => Ok(expr.map_columns(&|c| position(c).unwrap_or(0))),
            Some(name) => Err(SqlError::validation(format!(
                "LIKE leaves out column '{name}', which another column or the watermark is computed from"
            ))),
        }
    };
    for column in &mut draft.columns {
        if let DraftColumn::Inherited(TableColumn { kind: ColumnKind::Computed { expr, .. }, .. }) = column {
            *expr = remap(expr)?;
        }
    }
    if let Some(watermark) = &mut draft.inherited_watermark {
        watermark.expr = remap(&watermark.expr)?;
        watermark.column = position(watermark.column)
            .ok_or_else(|| SqlError::validation("LIKE leaves out the rowtime column: use EXCLUDING WATERMARKS"))?;
    }
    Ok(())
}

/// The columns of CREATE TABLE ... AS: those that are defined come first and in their order, or all
/// in the order of a list of names; physical ones of the query's name change its type.
fn columns_of_query(
    defined: Vec<DraftColumn>,
    schema: &RowSchema,
    create: &CreateTable,
) -> Result<Vec<DraftColumn>, SqlError> {
    let physical = |name: &str, data_type: &DataType| {
        DraftColumn::Inherited(TableColumn {
            name: name.to_owned(),
            data_type: data_type.clone(),
            kind: ColumnKind::Physical,
            comment: None,
        })
    };
    let of_query = |name: &str| schema.index_of(name).map(|i| &schema.fields[i]);
    if let Some(field) = schema.fields.iter().find(|f| f.data_type.logical == LogicalType::Null) {
        let message = format!("column '{}' of the query has no type: cast the NULL", field.name);
        return Err(SqlError::validation_at(message, create.name.span));
    }
    let names_only = |c: &DraftColumn| matches!(c, DraftColumn::New(c) if matches!(c.kind, ColumnDefKind::OfQuery));
    if !defined.is_empty() && defined.iter().all(names_only) {
        if defined.len() != schema.len() {
            let message = "the column list of CREATE TABLE ... AS must name every column of the query";
            return Err(SqlError::validation_at(message, create.name.span));
        }
        return defined
            .iter()
            .map(|column| match of_query(column.name()) {
                Some(field) => Ok(physical(&field.name, &field.data_type)),
                None => {
                    let message = format!("column '{}' is not a column of the query", column.name());
                    Err(SqlError::validation_at(message, create.name.span))
                }
            })
            .collect();
    }
    let (retyped, own): (Vec<DraftColumn>, Vec<DraftColumn>) =
        defined.into_iter().partition(|column| of_query(column.name()).is_some());
    let mut columns = own;
    for field in &schema.fields {
        let data_type = match retyped.iter().find(|c| c.name() == field.name) {
            None => &field.data_type,
            Some(DraftColumn::New(column)) => match &column.kind {
                ColumnDefKind::Physical(data_type) => data_type,
                _ => return Err(only_a_type(&field.name, create)),
            },
            Some(DraftColumn::Inherited(_)) => return Err(only_a_type(&field.name, create)),
        };
        columns.push(physical(&field.name, data_type));
    }
    Ok(columns)
}

fn only_a_type(column: &str, create: &CreateTable) -> SqlError {
    SqlError::validation_at(format!("column '{column}' of the query can only be given a type"), create.name.span)
}

/// The insert that fills a table created from a query. The query's columns go by name.
fn insert_of(create: &CreateTable, query: &Query, query_columns: Vec<String>) -> Insert {
    let span = create.name.span;
    Insert {
        table: create.name.clone(),
        hints: Vec::new(),
        overwrite: false,
        partition: Vec::new(),
        columns: query_columns.into_iter().map(|name| (name, span)).collect(),
        query: query.clone(),
    }
}
