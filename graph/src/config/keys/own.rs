//! Keys that Flink does not have.

use super::{ConfigOption, ValueType};

options! {
    EXCHANGE_LINGER = "hurtig.exchange.linger", [], ValueType::Duration, Some("5 ms"),
        "How long a partly filled batch waits for more rows while its task has input.";
    EXCHANGE_CREDIT = "hurtig.exchange.credit", [], ValueType::Memory, Some("512 kb"),
        "Bytes that a channel between TaskManagers may have in flight. What waits in channels delays barriers.";
    EXCHANGE_COMPRESSION = "hurtig.exchange.compression", [], ValueType::Enum(&["NONE", "LZ4"]), Some("NONE"),
        "Compression of batches between TaskManagers.";
    TASK_THREADS = "hurtig.task.threads", [], ValueType::Enum(&["SLOT", "TASK"]), Some("SLOT"),
        "Whether the tasks of a slot share its thread or have one each.";
    LOG_FORMAT = "hurtig.log.format", [], ValueType::Enum(&["TEXT", "JSON"]), Some("TEXT"),
        "Format of a process's log: text, or one JSON object a line. `--log-format` and the variable HURTIG_LOG_FORMAT come first.";
    METRICS_INTERVAL = "hurtig.metrics.report-interval", [], ValueType::Duration, Some("1 s"),
        "How often TaskManagers report the figures of their tasks to the JobManager.";
    COLLECT_BUFFER = "hurtig.collect.buffer", [], ValueType::Memory, Some("64 mb"),
        "Rows of a query that the JobManager holds for a slow client before the job is held back.";
    FALL_BACK = "hurtig.recovery.fall-back-to-earlier-checkpoint", [], ValueType::Bool, Some("false"),
        "When objects of the latest checkpoint are missing or damaged, the job restores the one before that, which \
         `execution.checkpointing.num-retained` must keep. What sinks have committed since then is written again.";
    DECOMMISSION_TIMEOUT = "hurtig.decommission.timeout", [], ValueType::Duration, Some("2 min"),
        "How long after SIGTERM a TaskManager ends whatever still runs there; jobs also leave within that time after a notice file without a time. What stops processes must wait longer: `terminationGracePeriodSeconds` in Kubernetes.";
    DECOMMISSION_NOTICE_FILE = "hurtig.decommission.notice-file", [], ValueType::String, None,
        "File whose existence tells a TaskManager that it is to go. It may hold the notice of EC2 in JSON, of which `time` is read. Not set: none is looked for.";
    DECOMMISSION_POLL = "hurtig.decommission.poll-interval", [], ValueType::Duration, Some("1 s"),
        "How often that file is looked for.";
    RPC_MAX_MESSAGE = "hurtig.rpc.max-message-size", [], ValueType::Memory, Some("64 mb"),
        "Largest message between clients, JobManager and TaskManagers.";
}
