//! High availability: where a JobManager keeps what a successor needs.

use super::{ConfigOption, ValueType};

options! {
    HA_TYPE = "high-availability.type", ["high-availability", "high-availability.mode"], ValueType::String, Some("NONE"),
        "`NONE`, or anything else (`zookeeper`, `kubernetes`): several JobManagers stand in for each other, by a lease in `high-availability.storageDir`. Neither ZooKeeper nor Kubernetes is needed.";
    HA_STORAGE_DIR = "high-availability.storageDir", ["recovery.zookeeper.storageDir"], ValueType::String, None,
        "Folder for leadership, job graphs and results (`s3p://`, `s3://`, `file://` on a shared disk), the same for all JobManagers and TaskManagers. Checkpoints stay in `execution.checkpointing.dir`.";
    HA_CLUSTER_ID = "high-availability.cluster-id", [], ValueType::String, Some("/default"),
        "Tells clusters apart that share a storage folder: the name of the folder below it.";
    HA_LEASE = "hurtig.high-availability.lease", [], ValueType::Duration, Some("10 s"),
        "A leader that has not renewed its lease for so long gives up; another JobManager follows it after that time and a quarter.";
    HA_RECONCILE = "hurtig.high-availability.reconcile-timeout", [], ValueType::Duration, Some("10 s"),
        "How long a new leader waits for TaskManagers to say what they run before it restarts what nobody has reported.";
    HA_TASK_GRACE = "hurtig.high-availability.task-grace", [], ValueType::Duration, Some("1 min"),
        "How long a TaskManager keeps its tasks running without a JobManager. 0: they are cancelled at once, and the next leader restarts them from their checkpoints.";
}
