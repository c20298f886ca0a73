//! High availability: where a JobManager keeps what a successor needs.

use super::{ConfigOption, ValueType};

options! {
    HA_TYPE = "high-availability.type", ["high-availability", "high-availability.mode"], ValueType::String, Some("NONE"),
        "`NONE`, or anything else for leadership and job graphs in `high-availability.storageDir`; no ZooKeeper is needed.";
    HA_STORAGE_DIR = "high-availability.storageDir", ["recovery.zookeeper.storageDir"], ValueType::String, None,
        "Folder in object storage for job graphs, leadership and checkpoint pointers.";
    HA_CLUSTER_ID = "high-availability.cluster-id", [], ValueType::String, Some("/default"),
        "Tells clusters apart that share a storage folder.";
}
