//! Whole statements through the session, with connectors that accept everything they are told to.

mod ddl;
mod errors;
mod queries;

use std::sync::Arc;

use hurtig_graph::RowSchema;
use hurtig_graph::connector::{ConnectorCatalog, ConnectorError, Options, SinkInfo, SourceInfo};
use hurtig_graph::coordinator::OperatorCoordinator;
use hurtig_proto::v1;

use crate::{Session, SqlError, StatementResult, split_script};

/// Connectors: `files` (append), `cdc` (a source of changes), `upsert` (a sink by key), `print`.
struct FakeConnectors;

impl ConnectorCatalog for FakeConnectors {
    fn source(&self, options: &Options, _: &RowSchema) -> Result<SourceInfo, ConnectorError> {
        match options.get("connector").map(String::as_str) {
            Some("files" | "datagen" | "cdc") => Ok(SourceInfo {
                bounded: true,
                projection_pushdown: options.get("pushdown").is_none_or(|p| p == "true"),
                changelog: options["connector"] == "cdc",
            }),
            Some(other) => Err(ConnectorError::validation(format!("there is no source connector '{other}'"))),
            None => Err(ConnectorError::validation("the option 'connector' is missing")),
        }
    }

    fn sink(&self, options: &Options, _: &RowSchema) -> Result<SinkInfo, ConnectorError> {
        let info = |accepts_updates, wants_update_before| Ok(SinkInfo { accepts_updates, wants_update_before });
        match options.get("connector").map(String::as_str) {
            Some("files") => info(false, false),
            Some("print") => info(true, true),
            Some("upsert") => info(true, false),
            other => Err(ConnectorError::validation(format!("there is no sink connector {other:?}"))),
        }
    }

    fn source_coordinator(&self, _: &Options) -> Result<Option<Box<dyn OperatorCoordinator>>, ConnectorError> {
        Ok(None)
    }

    fn discover_splits(&self, _: &Options) -> Result<Vec<Vec<u8>>, ConnectorError> {
        Ok(Vec::new())
    }
}

fn session() -> Session {
    Session::new(Arc::new(FakeConnectors))
}

/// A session with a table `bid` (event time `ts`), a table of changes `rates` and sinks.
fn session_with_tables() -> Session {
    let mut session = session();
    run(
        &mut session,
        "CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3),
           WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'files', 'path' = '/bids');
         CREATE TABLE rates (currency STRING, rate BIGINT, PRIMARY KEY (currency) NOT ENFORCED)
           WITH ('connector' = 'cdc');
         CREATE TABLE out_files (k STRING, n BIGINT) WITH ('connector' = 'files', 'path' = '/out');
         CREATE TABLE out_print (k STRING, n BIGINT) WITH ('connector' = 'print');
         CREATE TABLE out_upsert (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert');",
    );
    session
}

/// Runs all statements; the last one's result.
fn try_run(session: &mut Session, script: &str) -> Result<StatementResult, SqlError> {
    let mut last = StatementResult::Ok;
    for statement in split_script(script) {
        last = session.execute(&statement.text).map_err(|e| e.within_script(statement.position))?;
    }
    Ok(last)
}

fn run(session: &mut Session, script: &str) -> StatementResult {
    try_run(session, script).unwrap_or_else(|e| panic!("{script}: {e}"))
}

fn error(session: &mut Session, script: &str) -> String {
    match try_run(session, script) {
        Err(e) => e.to_string(),
        Ok(result) => panic!("{script} was accepted: {result:?}"),
    }
}

fn graph_of(result: StatementResult) -> v1::JobGraph {
    match result {
        StatementResult::Query { graph, .. } | StatementResult::Insert { graph } => {
            plan(&graph);
            graph
        }
        other => panic!("not a job: {other:?}"),
    }
}

fn graph(session: &mut Session, script: &str) -> v1::JobGraph {
    graph_of(run(session, script))
}

/// The graph as the JobManager makes it ready: refused when anything in it does not fit.
fn plan(graph: &v1::JobGraph) -> hurtig_graph::job::JobPlan {
    let cluster = hurtig_graph::config::Configuration::default();
    hurtig_graph::job::plan(graph, &crate::SqlResolver::default(), &cluster)
        .unwrap_or_else(|e| panic!("{e}: {:#?}", shape(graph)))
}

/// The vertices of a graph as `uid: name`, and its edges.
fn shape(graph: &v1::JobGraph) -> Vec<String> {
    let vertices = graph.vertices.iter().map(|v| {
        let parallelism = if v.parallelism == 0 { String::new() } else { format!(" x{}", v.parallelism) };
        format!("{}{parallelism}: {}", v.id, v.operator.as_ref().map_or("", |o| o.name.as_str()))
    });
    let edges = graph.edges.iter().map(|e| {
        let kind = match e.partitioner.as_ref().and_then(|p| p.kind.as_ref()) {
            Some(v1::partitioner::Kind::Forward(_)) => "forward".to_owned(),
            Some(v1::partitioner::Kind::Hash(hash)) => format!("hash {:?}", hash.columns),
            Some(v1::partitioner::Kind::Global(_)) => "global".to_owned(),
            Some(v1::partitioner::Kind::Rebalance(_)) => "rebalance".to_owned(),
            other => format!("{other:?}"),
        };
        format!("{} -> {}: {kind}", e.from, e.to)
    });
    vertices.chain(edges).collect()
}

fn operator<'a>(graph: &'a v1::JobGraph, uid: &str) -> &'a v1::Operator {
    let vertex =
        graph.vertices.iter().find(|v| v.id == uid).unwrap_or_else(|| panic!("no vertex {uid}: {:?}", shape(graph)));
    vertex.operator.as_ref().unwrap()
}

fn columns(schema: &RowSchema) -> Vec<String> {
    schema.fields.iter().map(|f| format!("{} {}", f.name, f.data_type)).collect()
}
