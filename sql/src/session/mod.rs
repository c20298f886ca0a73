//! A session: the catalog of tables and views, the settings, and what each statement does.

mod ddl;
mod result;
mod settings;
mod show;
mod user_functions;

use std::sync::Arc;

use hurtig_graph::RowSchema;
use hurtig_graph::config::{Configuration, Severity, check_pair, first_error};
use hurtig_graph::connector::ConnectorCatalog;

pub use result::{StatementResult, TableResult};
pub use settings::{LOCAL_TIME_ZONE, SessionSettings};
pub use user_functions::{FunctionSignature, UserFunctions};

use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::parser::{Insert, Statement, parse_statement};
use crate::planner::{self, ChangelogMode, Environment, NodeId, Plan, Planner};

/// Tables, views and settings, and the execution of statements against them.
///
/// Pure: what a statement makes is a result or a job graph; running the graph is the caller's.
pub struct Session {
    catalog: Catalog,
    connectors: Arc<dyn ConnectorCatalog>,
    settings: SessionSettings,
    /// Of the session's start, for RESET.
    initial: SessionSettings,
}

/// A plan ready to become a job graph.
struct Planned {
    plan: Plan,
    sinks: Vec<NodeId>,
    modes: Vec<ChangelogMode>,
}

impl Session {
    /// An empty session with default settings.
    pub fn new(connectors: Arc<dyn ConnectorCatalog>) -> Session {
        Session {
            catalog: Catalog::default(),
            connectors,
            settings: SessionSettings::default(),
            initial: SessionSettings::default(),
        }
    }

    /// An empty session that starts with the given settings.
    ///
    /// # Errors
    /// A value that cannot be, as an unknown time zone.
    pub fn with_configuration(
        connectors: Arc<dyn ConnectorCatalog>,
        configuration: Configuration,
    ) -> Result<Session, SqlError> {
        let settings = SessionSettings::new(configuration)?;
        Ok(Session { initial: settings.clone(), settings, ..Session::new(connectors) })
    }

    /// The same session with user-defined functions.
    #[must_use]
    pub fn with_functions(mut self, functions: Arc<UserFunctions>) -> Session {
        self.settings = self.settings.with_functions(functions.clone());
        self.initial = self.initial.with_functions(functions);
        self
    }

    /// The settings as they are now.
    pub fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// Runs one statement. Positions in errors count from its start.
    ///
    /// # Errors
    /// What is wrong with the statement; the session is as before, except that CREATE TABLE ... AS
    /// leaves the table when its query cannot be planned.
    pub fn execute(&mut self, statement: &str) -> Result<StatementResult, SqlError> {
        match parse_statement(statement)? {
            Statement::CreateTable(table) => self.create_table(&table),
            Statement::CreateView(view) => self.create_view(&view),
            Statement::CreateDatabase { name, if_not_exists } => {
                self.catalog.create_database(&name, if_not_exists).map(|()| StatementResult::Ok)
            }
            Statement::Drop(drop) => self.drop_object(&drop),
            Statement::AlterTable { name, if_exists, change } => self.alter_table(&name, if_exists, change),
            Statement::Use { name } => self.catalog.use_database(&name).map(|()| StatementResult::Ok),
            Statement::UseCatalog { name } => self.catalog.use_catalog(&name).map(|()| StatementResult::Ok),
            Statement::Set(None) => Ok(StatementResult::Table(show::settings(&self.settings))),
            Statement::Set(Some((key, value))) => {
                check_setting(&key, &value)?;
                self.settings = self.settings.with(&key, &value)?;
                Ok(StatementResult::Ok)
            }
            Statement::Reset(None) => {
                self.settings = self.initial.clone();
                Ok(StatementResult::Ok)
            }
            Statement::Reset(Some(key)) => {
                self.settings = match self.initial.get(&key) {
                    Some(value) => self.settings.with(&key, value)?,
                    None => self.settings.without(&key)?,
                };
                Ok(StatementResult::Ok)
            }
            Statement::Show(show) => self.show(&show).map(StatementResult::Table),
            Statement::Describe(name) => self.describe(&name).map(StatementResult::Table),
            Statement::Explain { details, of } => self.explain(&details, &of).map(StatementResult::Table),
            Statement::Insert(insert) => self.insert(std::slice::from_ref(insert.as_ref())),
            Statement::InsertSet(inserts) => self.insert(&inserts),
            Statement::Query(query) => self.query(&query),
        }
    }

    fn planner(&self) -> Planner<'_> {
        Planner::new(&self.catalog, self.connectors.as_ref(), &self.settings)
    }

    fn finish(plan: &Plan, sinks: &[NodeId]) -> Result<Planned, SqlError> {
        let (plan, sinks) = planner::optimize(plan, sinks)?;
        let modes = planner::infer(&plan)?;
        Ok(Planned { plan, sinks, modes })
    }

    fn insert(&self, inserts: &[Insert]) -> Result<StatementResult, SqlError> {
        let mut planner = self.planner();
        let sinks = planner.inserts(inserts)?;
        let planned = Self::finish(&planner.plan, &sinks)?;
        let graph = self.graph(&planned, insert_name(&self.catalog, inserts))?;
        Ok(StatementResult::Insert { graph })
    }

    fn query(&self, query: &sqlparser::ast::Query) -> Result<StatementResult, SqlError> {
        let mut planner = self.planner();
        let relation = planner.query(query, &Environment::default())?;
        let schema = plain_schema(relation.schema());
        let sink = planner.collect(&relation)?;
        let planned = Self::finish(&planner.plan, &[sink])?;
        let sink = planned.sinks[0];
        let changelog = planned.modes[sink];
        let upsert_key = match changelog {
            ChangelogMode::Upsert => planned.plan.nodes[sink].key.clone(),
            _ => None,
        };
        let graph = self.graph(&planned, "collect".to_owned())?;
        Ok(StatementResult::Query { graph, schema, changelog, upsert_key })
    }

    fn graph(&self, planned: &Planned, name: String) -> Result<hurtig_proto::v1::JobGraph, SqlError> {
        planner::job_graph(&planned.plan, &planned.sinks, &planned.modes, &self.settings, name)
    }

    fn explain(&self, details: &[String], of: &Statement) -> Result<TableResult, SqlError> {
        let mut planner = self.planner();
        let (sinks, name) = match of {
            Statement::Query(query) => {
                let relation = planner.query(query, &Environment::default())?;
                (vec![planner.collect(&relation)?], "collect".to_owned())
            }
            Statement::Insert(insert) => {
                let inserts = std::slice::from_ref(insert.as_ref());
                (planner.inserts(inserts)?, insert_name(&self.catalog, inserts))
            }
            Statement::InsertSet(inserts) => (planner.inserts(inserts)?, insert_name(&self.catalog, inserts)),
            _ => return Err(SqlError::validation("only queries, INSERT and statement sets can be explained")),
        };
        let planned = Self::finish(&planner.plan, &sinks)?;
        let graph = self.graph(&planned, name)?;
        let mut text = String::new();
        let mut section = |title: &str, body: &str| {
            text.push_str(&format!("== {title} ==\n{}\n", body.trim_end()));
            text.push('\n');
        };
        section("Abstract Syntax Tree", &planner::tree(&planner.plan, &sinks, None));
        section("Optimized Physical Plan", &planner::tree(&planned.plan, &planned.sinks, Some(&planned.modes)));
        section("Optimized Execution Plan", &planner::job_graph_text(&graph));
        if details.iter().any(|d| d == "JSON_EXECUTION_PLAN") {
            section("Physical Execution Plan", &show::graph_json(&graph));
        }
        Ok(TableResult::strings(&["result"], vec![vec![Some(text.trim_end().to_owned())]]))
    }
}

/// Refuses wrong values and misspelt keys; says what has no effect.
fn check_setting(key: &str, value: &str) -> Result<(), SqlError> {
    let found = check_pair(key, value);
    first_error(&found).map_err(|e| SqlError::Config(e.to_string()))?;
    for diagnostic in &found {
        match diagnostic.severity {
            Severity::Info => tracing::info!("{diagnostic}"),
            _ => tracing::warn!("{diagnostic}"),
        }
    }
    Ok(())
}

/// What a client gets has no time attributes.
fn plain_schema(mut schema: RowSchema) -> RowSchema {
    schema.fields.iter_mut().for_each(|f| f.time = hurtig_graph::TimeAttribute::None);
    schema
}

fn insert_name(catalog: &Catalog, inserts: &[Insert]) -> String {
    let mut names: Vec<String> = inserts.iter().map(|i| catalog.identify(&i.table.parts).to_string()).collect();
    names.dedup();
    format!("insert-into_{}", names.join(","))
}
