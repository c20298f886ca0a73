//! TaskManagers: addresses, slots, memory, cancellation.

use super::{ConfigOption, ValueType};

options! {
    TASKMANAGER_HOST = "taskmanager.host", [], ValueType::String, None,
        "Host of this TaskManager, as others reach it. Not set: the interface that it listens on.";
    TASKMANAGER_BIND_HOST = "taskmanager.bind-host", [], ValueType::String, Some("127.0.0.1"),
        "Interface that the TaskManager listens on. Only loopback unless TLS is configured or `--insecure-network` is given.";
    TASKMANAGER_DATA_PORT = "taskmanager.data.port", [], ValueType::Port, Some("0"),
        "Port of the data exchange. 0: any free port.";
    TASKMANAGER_RPC_PORT = "taskmanager.rpc.port", [], ValueType::Port, Some("0"),
        "Flink's port of the TaskManager's RPC. Hurtig's TaskManagers connect to the JobManager and listen on the data port only.";
    TASKMANAGER_RESOURCE_ID = "taskmanager.resource-id", [], ValueType::String, None,
        "Identity of this TaskManager. With the same identity and working directory a restarted process finds its local state again. Not set: generated.";
    TASK_SLOTS = "taskmanager.numberOfTaskSlots", [], ValueType::Int, Some("1"),
        "How many slots the TaskManager offers: each is a thread that runs one pipeline of a job.";
    TASKMANAGER_MEMORY_PROCESS = "taskmanager.memory.process.size", [], ValueType::Memory, None,
        "Memory of the whole process. 64 MB and an eighth are kept for the program, the network's fraction for the exchange; the rest is for state: what RocksDB does not have is for the live state of operators, an equal part for each slot. State that does not fit is read from the local disk when it is needed. Not set: half of what the machine or container has.";
    TASKMANAGER_MEMORY_FLINK = "taskmanager.memory.flink.size", [], ValueType::Memory, None,
        "Flink's process memory without the JVM's overhead. Read as the process size when that is not set.";
    TASKMANAGER_MEMORY_MANAGED_SIZE = "taskmanager.memory.managed.size", ["taskmanager.memory.size"], ValueType::Memory, None,
        "Managed memory, of which RocksDB has half. Not set: by the fraction.";
    TASKMANAGER_MEMORY_MANAGED_FRACTION = "taskmanager.memory.managed.fraction", [], ValueType::Float, Some("0.4"),
        "Share of the memory that is managed.";
    TASKMANAGER_MEMORY_NETWORK_FRACTION = "taskmanager.memory.network.fraction", ["taskmanager.network.memory.fraction"], ValueType::Float, Some("0.1"),
        "Share of `taskmanager.memory.process.size` that rows on their way between tasks may take. With many channels each gets less than `hurtig.exchange.credit`, down to 32 kb. No limit where no process size is set.";
    TASKMANAGER_MEMORY_NETWORK_MIN = "taskmanager.memory.network.min", ["taskmanager.network.memory.min"], ValueType::Memory, Some("64 mb"),
        "Least memory for the exchange, where it is limited.";
    TASKMANAGER_MEMORY_NETWORK_MAX = "taskmanager.memory.network.max", ["taskmanager.network.memory.max"], ValueType::Memory, None,
        "Most memory for the exchange. Not set: no limit but the fraction.";
    TASK_CANCELLATION_TIMEOUT = "task.cancellation.timeout", [], ValueType::Duration, Some("3 min"),
        "A task that takes longer to cancel ends the process. 0: never.";
    TASKMANAGER_REGISTRATION_TIMEOUT = "taskmanager.registration.timeout", [], ValueType::Duration, Some("5 min"),
        "A TaskManager that could not register with the JobManager for so long ends.";
}
