//! What JobManager and TaskManagers share: heartbeats, slots, directories, the REST port.

use super::{ConfigOption, ValueType};

options! {
    HEARTBEAT_INTERVAL = "heartbeat.interval", [], ValueType::Duration, Some("10 s"),
        "Time between heartbeats.";
    HEARTBEAT_TIMEOUT = "heartbeat.timeout", [], ValueType::Duration, Some("50 s"),
        "Silence after which the other side is taken for lost. A closed connection is noticed at once.";
    CLIENT_HEARTBEAT_INTERVAL = "client.heartbeat.interval", [], ValueType::Duration, Some("30 s"),
        "How often the JobManager pings its connections, so that a client whose machine has gone is noticed. A closed connection is noticed at once.";
    CLIENT_HEARTBEAT_TIMEOUT = "client.heartbeat.timeout", [], ValueType::Duration, Some("180 s"),
        "A query (SELECT) is cancelled when no client has been attached to its rows for so long. A client that reads slowly, or not at all for a while, is still attached. 0: never.";
    GRACEFUL_DECOMMISSION = "cluster.taskmanager.graceful-decommission.enabled", [], ValueType::Bool, Some("true"),
        "A TaskManager that is to go (SIGTERM, `hurtig.decommission.notice-file`, `hurtig taskmanagers decommission`) gets no new tasks, and jobs leave it with a checkpoint taken for it and one restart, which no restart strategy counts. A job without a completed checkpoint stays until the TaskManager ends, which is a failure like any other.";
    SLOT_IDLE_TIMEOUT = "slot.idle.timeout", [], ValueType::Duration, Some("50 s"),
        "How long a job keeps a slot that it does not use.";
    SLOT_REQUEST_TIMEOUT = "slot.request.timeout", [], ValueType::Duration, Some("5 min"),
        "How long a job waits for a slot.";
    IO_TMP_DIRS = "io.tmp.dirs", ["taskmanager.tmp.dirs"], ValueType::String, None,
        "Folders for temporary files. Not set: the system's.";
    WORKING_DIR = "process.working-dir", [], ValueType::String, None,
        "Folder for what a process keeps on local disk. Not set: a new one below `io.tmp.dirs`.";
    TASKMANAGER_WORKING_DIR = "process.taskmanager.working-dir", [], ValueType::String, None,
        "The same for TaskManagers only.";
    JOBMANAGER_WORKING_DIR = "process.jobmanager.working-dir", [], ValueType::String, None,
        "The same for the JobManager only.";
    REST_ADDRESS = "rest.address", [], ValueType::String, None,
        "Host of the JobManager's HTTP endpoint, as clients reach it. Not set: `jobmanager.rpc.address`.";
    REST_PORT = "rest.port", ["web.port"], ValueType::Port, Some("8081"),
        "Port of Flink's REST API. Not served yet.";
    REST_BIND_ADDRESS = "rest.bind-address", ["web.address"], ValueType::String, None,
        "Interface of the JobManager's HTTP endpoint.";
}
