//! Checkpoints, savepoints and what a job starts from.

use super::{ConfigOption, ValueType};

options! {
    CHECKPOINTING_INTERVAL = "execution.checkpointing.interval", [], ValueType::Duration, None,
        "Time between the starts of two checkpoints. Not set: no checkpoints.";
    CHECKPOINTING_MODE = "execution.checkpointing.mode", [], ValueType::Enum(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]), Some("EXACTLY_ONCE"),
        "Whether each row counts exactly once in state after a failure. With `AT_LEAST_ONCE` barriers hold back no channel, and rows may count twice after a failure; unaligned checkpoints are off then.";
    CHECKPOINTING_TIMEOUT = "execution.checkpointing.timeout", [], ValueType::Duration, Some("10 min"),
        "A checkpoint that takes longer is given up.";
    CHECKPOINTING_MIN_PAUSE = "execution.checkpointing.min-pause", [], ValueType::Duration, Some("0 ms"),
        "Least time between the end of a checkpoint and the start of the next.";
    CHECKPOINTING_MAX_CONCURRENT = "execution.checkpointing.max-concurrent-checkpoints", [], ValueType::Int, Some("1"),
        "How many checkpoints may be under way at once. Not supported yet: one is taken at a time.";
    CHECKPOINTING_TOLERABLE_FAILED = "execution.checkpointing.tolerable-failed-checkpoints", [], ValueType::Int, Some("0"),
        "How many checkpoints in a row may fail before the job fails and restarts.";
    CHECKPOINTING_EXTERNALIZED_RETENTION = "execution.checkpointing.externalized-checkpoint-retention", [],
        ValueType::Enum(&["NO_EXTERNALIZED_CHECKPOINTS", "DELETE_ON_CANCELLATION", "RETAIN_ON_CANCELLATION"]),
        Some("NO_EXTERNALIZED_CHECKPOINTS"),
        "What happens to the retained checkpoints when a job ends. `NO_EXTERNALIZED_CHECKPOINTS` deletes them, `DELETE_ON_CANCELLATION` keeps those of a failed job, `RETAIN_ON_CANCELLATION` those of a failed or cancelled one; those of a finished job are always deleted.";
    CHECKPOINTING_DIRECTORY = "execution.checkpointing.dir", ["state.checkpoints.dir", "state.backend.fs.checkpointdir"], ValueType::String, None,
        "Folder of the checkpoints: `file://`, `s3://`, `s3a://` or `s3p://`.";
    CHECKPOINTING_SAVEPOINT_DIRECTORY = "execution.checkpointing.savepoint-dir", ["state.savepoints.dir", "savepoints.state.backend.fs.dir"], ValueType::String, None,
        "Folder of savepoints that are triggered without one; each has a folder of its own in it.";
    CHECKPOINTING_STORAGE = "execution.checkpointing.storage", ["state.checkpoint-storage"], ValueType::String, None,
        "`filesystem` or `jobmanager`. Follows from `execution.checkpointing.dir`.";
    CHECKPOINTING_NUM_RETAINED = "execution.checkpointing.num-retained", ["state.checkpoints.num-retained"], ValueType::Int, Some("1"),
        "How many completed checkpoints are kept.";
    CHECKPOINTING_INCREMENTAL = "execution.checkpointing.incremental", ["state.backend.incremental"], ValueType::Bool, Some("false"),
        "Flink's switch for incremental checkpoints. Hurtig's are always incremental.";
    CHECKPOINTING_CREATE_SUBDIR = "execution.checkpointing.create-subdir", ["state.checkpoints.create-subdir"], ValueType::Bool, Some("true"),
        "Whether a job's checkpoints lie in a sub-folder named by the job's id.";
    CHECKPOINTING_UNALIGNED = "execution.checkpointing.unaligned.enabled", ["execution.checkpointing.unaligned"], ValueType::Bool, Some("false"),
        "Barriers overtake rows, which become part of the checkpoint, so that it completes under backpressure too. Savepoints stay aligned.";
    CHECKPOINTING_ALIGNED_TIMEOUT = "execution.checkpointing.aligned-checkpoint-timeout", ["execution.checkpointing.alignment-timeout"], ValueType::Duration, Some("0 ms"),
        "With unaligned checkpoints: barriers start aligned, and overtake rows only when so much time has passed since the checkpoint was triggered. `0 ms`: they overtake from the start.";
    CHECKPOINTING_LOCAL_BACKUP = "execution.checkpointing.local-backup.enabled", ["state.backend.local-recovery"], ValueType::Bool, Some("false"),
        "Keep the last checkpoint of each task on the TaskManager's disk.";
    CHECKPOINTING_LOCAL_BACKUP_DIRS = "execution.checkpointing.local-backup.dirs", ["taskmanager.state.local.root-dirs"], ValueType::String, None,
        "Where local copies lie. Not set: the working directory.";
    CHECKPOINTING_DATA_INLINE_THRESHOLD = "execution.checkpointing.data-inline-threshold", ["state.storage.fs.memory-threshold", "state.backend.fs.memory-threshold"], ValueType::Memory, Some("20 kb"),
        "State of a task up to this size travels in the checkpoint's metadata: the task has no database and no files. At most 1 MB. Files up to 20 kB of larger state travel there too.";
    CHECKPOINTING_AFTER_TASKS_FINISH = "execution.checkpointing.checkpoints-after-tasks-finish", ["execution.checkpointing.checkpoints-after-tasks-finish.enabled"], ValueType::Bool, Some("true"),
        "Checkpoints go on after some tasks have finished, and a last one commits the sinks of a bounded job.";
    RECOVERY_PATH = "execution.state-recovery.path", ["execution.savepoint.path"], ValueType::String, None,
        "The savepoint or retained checkpoint that the job starts from: its folder or its `_metadata` object. A restart before the job's own first checkpoint restores it again.";
    RECOVERY_CLAIM_MODE = "execution.state-recovery.claim-mode", ["execution.savepoint-restore-mode"], ValueType::Enum(&["NO_CLAIM", "CLAIM", "LEGACY"]), Some("NO_CLAIM"),
        "Whether the job takes over the files that it starts from. `NO_CLAIM`: they stay as they are, and no later checkpoint refers to them. `CLAIM`: the job deletes them when it needs them no more. `LEGACY` is the same as `NO_CLAIM`.";
    RECOVERY_IGNORE_UNCLAIMED = "execution.state-recovery.ignore-unclaimed-state", ["execution.savepoint.ignore-unclaimed-state"], ValueType::Bool, Some("false"),
        "State that no operator of the job claims is dropped instead of refused.";
    RECOVERY_FROM_LOCAL = "execution.state-recovery.from-local", ["state.backend.local-recovery"], ValueType::Bool, Some("false"),
        "Restore from local copies where they are intact, and prefer slots that hold them.";
}
