//! SQL sessions.

use super::{ConfigOption, ValueType};

options! {
    STATE_TTL = "table.exec.state.ttl", [], ValueType::Duration, Some("0 ms"),
        "State of updating queries that was not touched for so long is dropped. 0: never.";
    SOURCE_IDLE_TIMEOUT = "table.exec.source.idle-timeout", [], ValueType::Duration, Some("0 ms"),
        "A source subtask without rows for so long no longer holds back event time. 0: never.";
    TABLE_PARALLELISM = "table.exec.resource.default-parallelism", [], ValueType::Int, Some("-1"),
        "Parallelism of SQL operators. -1: `parallelism.default`.";
    MINI_BATCH = "table.exec.mini-batch.enabled", [], ValueType::Bool, Some("false"),
        "Flink's switch for mini-batches. Hurtig always works on batches.";
    MINI_BATCH_LATENCY = "table.exec.mini-batch.allow-latency", [], ValueType::Duration, Some("0 ms"),
        "Flink's longest wait for a mini-batch. Hurtig's is `hurtig.exchange.linger`.";
    MINI_BATCH_SIZE = "table.exec.mini-batch.size", [], ValueType::Int, Some("-1"),
        "Flink's size of a mini-batch. No effect.";
    AGG_PHASE_STRATEGY = "table.optimizer.agg-phase-strategy", [], ValueType::Enum(&["AUTO", "TWO_PHASE", "ONE_PHASE"]), Some("AUTO"),
        "Whether aggregations pre-aggregate before the shuffle.";
    DISTINCT_AGG_SPLIT = "table.optimizer.distinct-agg.split.enabled", [], ValueType::Bool, Some("false"),
        "Whether DISTINCT aggregates are split over subtasks first.";
    NOT_NULL_ENFORCER = "table.exec.sink.not-null-enforcer", [], ValueType::Enum(&["ERROR", "DROP"]), Some("ERROR"),
        "What happens to a NULL in a NOT NULL column of a sink.";
    TYPE_LENGTH_ENFORCER = "table.exec.sink.type-length-enforcer", [], ValueType::Enum(&["IGNORE", "TRIM_PAD", "ERROR"]), Some("IGNORE"),
        "What happens to strings that do not fit a sink column's length.";
    UPSERT_MATERIALIZE = "table.exec.sink.upsert-materialize", [], ValueType::Enum(&["AUTO", "NONE", "FORCE"]), Some("AUTO"),
        "Whether a sink with a primary key is put behind an operator that orders the changes of a key.";
    LEGACY_CAST = "table.exec.legacy-cast-behaviour", [], ValueType::Enum(&["ENABLED", "DISABLED"]), Some("DISABLED"),
        "The cast rules of Flink before 1.15. Only DISABLED.";
    LOCAL_TIME_ZONE = "table.local-time-zone", [], ValueType::String, Some("default"),
        "Zone of the session: a name such as `Europe/Berlin`, or `default` for UTC.";
    DML_SYNC = "table.dml-sync", [], ValueType::Bool, Some("false"),
        "INSERT waits until its job has finished.";
    BUILTIN_CATALOG = "table.builtin-catalog-name", [], ValueType::String, Some("default_catalog"),
        "Name of the catalog that a session starts with.";
    BUILTIN_DATABASE = "table.builtin-database-name", [], ValueType::String, Some("default_database"),
        "Name of the database that a session starts with.";
    SQL_DIALECT = "table.sql-dialect", [], ValueType::Enum(&["default", "hive"]), Some("default"),
        "Dialect of SQL. Only `default`.";
    RESULT_MODE = "sql-client.execution.result-mode", [], ValueType::Enum(&["TABLE", "CHANGELOG", "TABLEAU"]), Some("TABLE"),
        "How `hurtig sql` shows the rows of a query.";
    MAX_TABLE_RESULT_ROWS = "sql-client.execution.max-table-result.rows", [], ValueType::Int, Some("1000000"),
        "Flink's limit of rows kept for display. No effect.";
}
