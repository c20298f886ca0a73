//! The JobManager: addresses, scheduler, failover.

use super::{ConfigOption, ValueType};

options! {
    JOBMANAGER_ADDRESS = "jobmanager.rpc.address", [], ValueType::String, None,
        "Host of the JobManager, as TaskManagers and clients reach it.";
    JOBMANAGER_PORT = "jobmanager.rpc.port", [], ValueType::Port, Some("6123"),
        "Port of the JobManager's gRPC services. 0: any free port.";
    JOBMANAGER_BIND_HOST = "jobmanager.bind-host", [], ValueType::String, Some("127.0.0.1"),
        "Interface that the JobManager listens on. Only loopback unless TLS is configured or `--insecure-network` is given.";
    JOBMANAGER_RESOURCE_ID = "jobmanager.resource-id", [], ValueType::String, None,
        "Identity of this JobManager process. Not set: generated.";
    JOBMANAGER_SCHEDULER = "jobmanager.scheduler", [], ValueType::Enum(&["Default", "Adaptive", "AdaptiveBatch"]), Some("Default"),
        "`Adaptive`: a job may start and go on with less parallelism than planned when slots are missing, and takes more when they come. Otherwise it waits for all its slots.";
    FAILOVER_STRATEGY = "jobmanager.execution.failover-strategy", [], ValueType::Enum(&["region", "full"]), Some("region"),
        "What restarts after a failure: the pipelined regions that it touches, or the whole job.";
    RESOURCE_WAIT_TIMEOUT = "jobmanager.adaptive-scheduler.submission.resource-wait-timeout", ["jobmanager.adaptive-scheduler.resource-wait-timeout"], ValueType::Duration, Some("5 min"),
        "How long a job waits for the slots that it needs at least.";
    RESOURCE_STABILIZATION_TIMEOUT = "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout", ["jobmanager.adaptive-scheduler.resource-stabilization-timeout"], ValueType::Duration, Some("10 s"),
        "How long a job with enough slots to run, but fewer than it wants, waits for more before it starts.";
    SCALING_COOLDOWN = "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling", ["jobmanager.adaptive-scheduler.scaling-interval.min"], ValueType::Duration, Some("30 s"),
        "Quiet time after a rescale.";
    EXECUTING_STABILIZATION_TIMEOUT = "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout", ["jobmanager.adaptive-scheduler.scaling-interval.max"], ValueType::Duration, Some("1 min"),
        "How long a running job waits for slots to settle before it rescales to fewer than it wants.";
    RESCALE_MAX_CHECKPOINT_FAILURES = "jobmanager.adaptive-scheduler.rescale-trigger.max-checkpoint-failures", ["jobmanager.adaptive-scheduler.scale-on-failed-checkpoints-count"], ValueType::Int, Some("2"),
        "A rescale that waits for a checkpoint no longer does after so many of them have failed.";
    RESCALE_MAX_DELAY = "jobmanager.adaptive-scheduler.rescale-trigger.max-delay", ["jobmanager.adaptive-scheduler.max-delay-for-scale-trigger"], ValueType::Duration, None,
        "How long a rescale waits for a checkpoint. Not set: as long as the checkpoints take that may fail, and one more; 0 without checkpoints.";
    COMBINED_RESTART = "jobmanager.adaptive-scheduler.combined-restart.enabled", [], ValueType::Bool, Some("false"),
        "Changes of the cluster within a window lead to one restart of an adaptive job: as soon as there are slots for all that it wants, at the latest when the window is over. Also for TaskManagers that are to go.";
    COMBINED_RESTART_WINDOW = "jobmanager.adaptive-scheduler.combined-restart.window-interval", [], ValueType::Duration, Some("1 min"),
        "That window, from the first change on.";
    SCHEDULER_MODE = "scheduler-mode", [], ValueType::Enum(&["reactive"]), None,
        "`reactive`: every job is as wide as the slots allow, up to the max parallelism.";
    EXCEPTION_HISTORY_SIZE = "web.exception-history-size", [], ValueType::Int, Some("16"),
        "Failures of a job that are remembered, each with those that led to the same restart.";
    JOBMANAGER_MEMORY = "jobmanager.memory.process.size", [], ValueType::Memory, None,
        "Memory budget of the JobManager's process. Not enforced.";
}
