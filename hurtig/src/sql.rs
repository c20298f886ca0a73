//! SQL sessions: statements planned in this process, their jobs run on a cluster.

use std::sync::Arc;

use hurtig_graph::RowSchema;
use hurtig_graph::config::Configuration;
use hurtig_graph::connector::ConnectorCatalog;
use hurtig_sql::{ChangelogMode, Session, StatementResult, UserFunctions};

pub use hurtig_sql::{ScriptStatement, TableResult, split_script};

use crate::client::{Client, JobHandle, ResultStream};
use crate::error::Result;

/// Tables, views and settings, and the cluster that queries run on.
pub struct SqlSession {
    session: Session,
    client: Client,
}

/// What a statement gives.
pub enum SqlResult {
    /// Done; nothing to show.
    Ok,
    /// Rows that are there at once: SHOW, DESCRIBE, EXPLAIN.
    Table(TableResult),
    /// INSERT: a job that has been started.
    Job(JobHandle),
    /// A query: a job that has been started, with its rows.
    Query(QueryResult),
}

/// The rows of a query.
pub struct QueryResult {
    /// Names and types of the columns.
    pub schema: RowSchema,
    /// Which kinds of change the rows carry.
    pub changelog: ChangelogMode,
    /// Columns by which +U replaces and -D removes a row, where there is no -U.
    pub upsert_key: Option<Vec<usize>>,
    /// The rows, as they come.
    pub rows: ResultStream,
}

impl SqlSession {
    pub(crate) fn new(
        client: Client,
        connectors: Arc<dyn ConnectorCatalog>,
        functions: Arc<UserFunctions>,
        configuration: Configuration,
    ) -> Result<SqlSession> {
        let session = Session::with_configuration(connectors, configuration)?.with_functions(functions);
        Ok(SqlSession { session, client })
    }

    /// The settings as they are now.
    pub fn configuration(&self) -> &Configuration {
        self.session.settings().configuration()
    }

    /// Runs one statement. A query or INSERT has been started when this returns.
    ///
    /// # Errors
    /// What is wrong with the statement, with line and column, or why the job could not be started.
    pub async fn execute(&mut self, statement: &str) -> Result<SqlResult> {
        let result = self.session.execute(statement)?;
        self.start(result).await
    }

    /// As [`SqlSession::execute`] for a statement of a script: places in errors are those in the
    /// script.
    ///
    /// # Errors
    /// As there.
    pub async fn execute_in_script(&mut self, statement: &ScriptStatement) -> Result<SqlResult> {
        let result = self.session.execute(&statement.text).map_err(|e| e.within_script(statement.position))?;
        self.start(result).await
    }

    async fn start(&mut self, result: StatementResult) -> Result<SqlResult> {
        match result {
            StatementResult::Ok => Ok(SqlResult::Ok),
            StatementResult::Table(table) => Ok(SqlResult::Table(table)),
            StatementResult::Insert { graph } => Ok(SqlResult::Job(self.client.submit(graph).await?)),
            StatementResult::Query { graph, schema, changelog, upsert_key } => {
                let rows = self.client.submit(graph).await?.results().await?;
                Ok(SqlResult::Query(QueryResult { schema, changelog, upsert_key, rows }))
            }
        }
    }
}
