//! Jobs: name, parallelism, chaining, time.

use super::{ConfigOption, ValueType};

options! {
    PARALLELISM_DEFAULT = "parallelism.default", [], ValueType::Int, Some("1"),
        "Parallelism of operators for which none is set.";
    PIPELINE_NAME = "pipeline.name", [], ValueType::String, None,
        "Name of the job.";
    MAX_PARALLELISM = "pipeline.max-parallelism", [], ValueType::Int, Some("-1"),
        "Number of key groups: the highest parallelism that a job's state can be rescaled to. -1: derived from the parallelism.";
    OPERATOR_CHAINING = "pipeline.operator-chaining.enabled", ["pipeline.operator-chaining"], ValueType::Bool, Some("true"),
        "Operators that can share a task do.";
    AUTO_WATERMARK_INTERVAL = "pipeline.auto-watermark-interval", [], ValueType::Duration, Some("200 ms"),
        "The least advance of event time that is announced at once.";
    RUNTIME_MODE = "execution.runtime-mode", [], ValueType::Enum(&["STREAMING", "BATCH", "AUTOMATIC"]), Some("STREAMING"),
        "Hurtig runs every job in streaming mode; BATCH is refused.";
    BUFFER_TIMEOUT = "execution.buffer-timeout.interval", ["execution.buffer-timeout"], ValueType::Duration, Some("100 ms"),
        "Flink's longest wait for a buffer to fill. Hurtig's is `hurtig.exchange.linger`.";
    OBJECT_REUSE = "pipeline.object-reuse", [], ValueType::Bool, Some("false"),
        "Flink's switch against copying rows within a chain. Hurtig never copies there.";
}
