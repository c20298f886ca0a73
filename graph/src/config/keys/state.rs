//! The state backend.

use super::{ConfigOption, ValueType};

options! {
    STATE_BACKEND = "state.backend.type", ["state.backend"], ValueType::String, Some("hashmap"),
        "Flink's choice of backend. Hurtig has one: columnar memory over RocksDB, whatever is named here.";
    STATE_BACKEND_LATENCY_TRACK = "state.latency-track.keyed-state-enabled", ["state.backend.latency-track.keyed-state-enabled"], ValueType::Bool, Some("false"),
        "Measure state accesses.";
    ROCKSDB_LOCAL_DIR = "state.backend.rocksdb.localdir", [], ValueType::String, None,
        "Where the databases lie: one or more folders, separated by commas or colons, used in turn by subtask. Not set: the working directory. On another device than local copies of checkpoints each checkpoint copies files instead of linking them.";
    ROCKSDB_THREADS = "state.backend.rocksdb.thread.num", [], ValueType::Int, Some("2"),
        "Background threads for flushes and compactions, for all databases of a TaskManager.";
    ROCKSDB_TRANSFER_THREADS = "state.backend.rocksdb.checkpoint.transfer.thread.num", [], ValueType::Int, Some("4"),
        "How many files a task uploads or downloads at once.";
    ROCKSDB_WRITE_BUFFER_RATIO = "state.backend.rocksdb.memory.write-buffer-ratio", [], ValueType::Float, Some("0.5"),
        "Share of RocksDB's memory that may hold writes.";
    ROCKSDB_HIGH_PRIO_RATIO = "state.backend.rocksdb.memory.high-prio-pool-ratio", [], ValueType::Float, Some("0.1"),
        "Share of RocksDB's cache that is kept for index and filter blocks. RocksDB's own ratio is used, whatever is set.";
    ROCKSDB_MANAGED_MEMORY = "state.backend.rocksdb.memory.managed", [], ValueType::Bool, Some("true"),
        "RocksDB takes its memory from the state's share. Always so in Hurtig.";
    ROCKSDB_FIXED_PER_SLOT = "state.backend.rocksdb.memory.fixed-per-slot", [], ValueType::Memory, None,
        "RocksDB's memory (block cache and write buffers) for each slot; all databases of a TaskManager share the sum. Not set: half of the managed memory, at most 512 MB. What RocksDB does not have is for the live state of operators.";
    ROCKSDB_FIXED_PER_TM = "state.backend.rocksdb.memory.fixed-per-tm", [], ValueType::Memory, None,
        "RocksDB's memory for a TaskManager, when it is not set by slot.";
    ROCKSDB_COMPACTION_STYLE = "state.backend.rocksdb.compaction.style", [], ValueType::Enum(&["LEVEL", "UNIVERSAL"]), Some("UNIVERSAL"),
        "How databases merge their files. UNIVERSAL uploads less at each checkpoint, LEVEL (Flink's default) reads fewer files for each key.";
    ROCKSDB_BLOCK_SIZE = "state.backend.rocksdb.block.blocksize", [], ValueType::Memory, Some("8 kb"),
        "Size of a block of a file, before compression.";
    ROCKSDB_WRITE_BUFFER_SIZE = "state.backend.rocksdb.writebuffer.size", [], ValueType::Memory, None,
        "Size of one write buffer. Not set: half of what all may have, between 1 and 64 MB.";
}
