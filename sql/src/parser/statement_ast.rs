//! The syntax trees of statements that are not queries.

use hurtig_graph::DataType;
use sqlparser::ast::{Expr, Query};
use sqlparser::tokenizer::Span;

/// A statement.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    CreateTable(Box<CreateTable>),
    CreateView(Box<CreateView>),
    CreateDatabase {
        name: Vec<String>,
        if_not_exists: bool,
    },
    Drop(Drop),
    AlterTable {
        name: Name,
        if_exists: bool,
        change: TableChange,
    },
    Use {
        name: Vec<String>,
    },
    UseCatalog {
        name: String,
    },
    /// Without a pair: shows all.
    Set(Option<(String, String)>),
    /// Without a key: all.
    Reset(Option<String>),
    Show(Show),
    Describe(Name),
    Explain {
        details: Vec<String>,
        of: Box<Statement>,
    },
    Insert(Box<Insert>),
    InsertSet(Vec<Insert>),
    Query(Box<Query>),
}

/// A name with its place.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    /// One to three parts.
    pub parts: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateTable {
    pub name: Name,
    pub temporary: bool,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<WatermarkDef>,
    pub primary_key: Option<PrimaryKeyDef>,
    pub comment: Option<String>,
    pub partitioned_by: Vec<String>,
    pub options: Vec<(String, String)>,
    pub like: Option<LikeClause>,
    pub query: Option<Query>,
}

#[derive(Debug, Clone)]
pub(crate) struct ColumnDef {
    pub name: String,
    pub span: Span,
    pub kind: ColumnDefKind,
    pub comment: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum ColumnDefKind {
    Physical(DataType),
    Computed {
        expr: Box<Expr>,
        text: String,
    },
    Metadata {
        data_type: DataType,
        key: Option<String>,
        is_virtual: bool,
    },
    /// Only a name: CREATE TABLE ... AS, to order the query's columns.
    OfQuery,
}

#[derive(Debug, Clone)]
pub(crate) struct WatermarkDef {
    pub column: String,
    pub expr: Expr,
    pub text: String,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub(crate) struct PrimaryKeyDef {
    pub name: Option<String>,
    pub columns: Vec<String>,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub(crate) struct LikeClause {
    pub name: Name,
    /// For example ("EXCLUDING", "OPTIONS").
    pub options: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct CreateView {
    pub name: Name,
    pub temporary: bool,
    pub if_not_exists: bool,
    pub columns: Vec<String>,
    pub comment: Option<String>,
    pub query: Query,
    pub text: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Drop {
    pub kind: DropKind,
    pub name: Name,
    pub temporary: bool,
    pub if_exists: bool,
    pub cascade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropKind {
    Table,
    View,
    Database,
}

#[derive(Debug, Clone)]
pub(crate) enum TableChange {
    Rename(Vec<String>),
    SetOptions(Vec<(String, String)>),
    ResetOptions(Vec<String>),
}

#[derive(Debug, Clone)]
pub(crate) struct Show {
    pub kind: ShowKind,
    /// FROM or IN a database or table.
    pub of: Option<Name>,
    pub filter: Option<ShowFilter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShowKind {
    Catalogs,
    CurrentCatalog,
    Databases,
    CurrentDatabase,
    Tables,
    Views,
    Columns,
    CreateTable,
    CreateView,
}

#[derive(Debug, Clone)]
pub(crate) struct ShowFilter {
    pub negated: bool,
    pub ignore_case: bool,
    pub pattern: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub table: Name,
    pub hints: Vec<(String, String)>,
    pub overwrite: bool,
    pub partition: Vec<(String, Expr)>,
    pub columns: Vec<(String, Span)>,
    pub query: Query,
}
