//! Registered keys that are read for compatibility only, and values that Hurtig cannot honour.
//!
//! A key without effect is accepted with a line that says so. A value that would change what a job
//! means is refused: running the job without it would be worse than not running it.

use super::{ConfigOption, keys};

/// Keys whose values are checked and otherwise ignored. Their descriptions say why.
const WITHOUT_EFFECT: &[&ConfigOption] = &[
    &keys::CHECKPOINTING_STORAGE,
    &keys::CHECKPOINTING_INCREMENTAL,
    &keys::CHECKPOINTING_CREATE_SUBDIR,
    &keys::CHECKPOINTING_LOCAL_BACKUP_DIRS,
    &keys::SLOT_IDLE_TIMEOUT,
    &keys::REST_ADDRESS,
    &keys::REST_PORT,
    &keys::REST_BIND_ADDRESS,
    &keys::JOBMANAGER_MEMORY,
    &keys::METRICS_REFRESH,
    &keys::METRICS_LATENCY_INTERVAL,
    &keys::RUNTIME_MODE,
    &keys::BUFFER_TIMEOUT,
    &keys::OBJECT_REUSE,
    &keys::STATE_BACKEND,
    &keys::STATE_BACKEND_LATENCY_TRACK,
    &keys::ROCKSDB_HIGH_PRIO_RATIO,
    &keys::ROCKSDB_MANAGED_MEMORY,
    &keys::MINI_BATCH,
    &keys::MINI_BATCH_LATENCY,
    &keys::MINI_BATCH_SIZE,
    &keys::DISTINCT_AGG_SPLIT,
    &keys::TYPE_LENGTH_ENFORCER,
    &keys::UPSERT_MATERIALIZE,
    &keys::LEGACY_CAST,
    &keys::BUILTIN_CATALOG,
    &keys::BUILTIN_DATABASE,
    &keys::SQL_DIALECT,
    &keys::RESULT_MODE,
    &keys::MAX_TABLE_RESULT_ROWS,
    &keys::TASKMANAGER_RPC_PORT,
    &keys::SSL_KEYSTORE_PASSWORD,
    &keys::SSL_KEY_PASSWORD,
    &keys::SSL_TRUSTSTORE_PASSWORD,
];

/// Values that are refused: key, the values that are fine, what to say.
const REFUSED: &[(ConfigOption, &[&str], &str)] = &[
    (keys::RUNTIME_MODE, &["STREAMING", "AUTOMATIC"], "every job runs in streaming mode: set STREAMING"),
    (keys::LEGACY_CAST, &["DISABLED"], "the cast rules of Flink before 1.15 are not supported"),
    (keys::SQL_DIALECT, &["default"], "only the default dialect is supported"),
    (keys::TYPE_LENGTH_ENFORCER, &["IGNORE"], "lengths are not enforced at sinks yet: set IGNORE, or CAST"),
    (keys::UPSERT_MATERIALIZE, &["AUTO", "NONE"], "the operator that orders changes before sinks is not built yet"),
];

/// Whether the key of `option` has an effect.
pub(super) fn has_effect(option: &ConfigOption) -> bool {
    !WITHOUT_EFFECT.iter().any(|o| o.key == option.key)
}

/// Why `value` is refused for `option`, if it is.
pub(super) fn refusal(option: &ConfigOption, value: &str) -> Option<&'static str> {
    let (_, fine, reason) = REFUSED.iter().find(|(o, ..)| o.key == option.key)?;
    let value = value.trim();
    (!fine.iter().any(|f| f.eq_ignore_ascii_case(value))).then_some(*reason)
}

/// Keys with values that are refused, with the values that are fine and what is said of the others.
pub(super) fn partly_refused() -> impl Iterator<Item = &'static (ConfigOption, &'static [&'static str], &'static str)> {
    REFUSED.iter()
}
