//! The state backend.

use super::{ConfigOption, ValueType};

options! {
    STATE_BACKEND = "state.backend.type", ["state.backend"], ValueType::String, Some("hashmap"),
        "Flink's choice of backend. Hurtig has one: columnar memory over RocksDB, whatever is named here.";
    STATE_BACKEND_LATENCY_TRACK = "state.latency-track.keyed-state-enabled", ["state.backend.latency-track.keyed-state-enabled"], ValueType::Bool, Some("false"),
        "Measure state accesses.";
    ROCKSDB_LOCAL_DIR = "state.backend.rocksdb.localdir", [], ValueType::String, None,
        "Where the databases lie. Not set: the working directory. Must be on the same device as local copies of checkpoints.";
    ROCKSDB_THREADS = "state.backend.rocksdb.thread.num", [], ValueType::Int, Some("2"),
        "Background threads for flushes and compactions, for all databases of a TaskManager.";
    ROCKSDB_TRANSFER_THREADS = "state.backend.rocksdb.checkpoint.transfer.thread.num", [], ValueType::Int, Some("4"),
        "How many files a task uploads or downloads at once.";
    ROCKSDB_WRITE_BUFFER_RATIO = "state.backend.rocksdb.memory.write-buffer-ratio", [], ValueType::Float, Some("0.5"),
        "Share of RocksDB's memory that may hold writes.";
    ROCKSDB_HIGH_PRIO_RATIO = "state.backend.rocksdb.memory.high-prio-pool-ratio", [], ValueType::Float, Some("0.1"),
        "Share of RocksDB's cache that is kept for index and filter blocks.";
    ROCKSDB_MANAGED_MEMORY = "state.backend.rocksdb.memory.managed", [], ValueType::Bool, Some("true"),
        "RocksDB takes its memory from the state's share. Always so in Hurtig.";
}
