//! Restart strategies.

use super::{ConfigOption, ValueType};

options! {
    RESTART_STRATEGY = "restart-strategy.type", ["restart-strategy"],
        ValueType::Enum(&["none", "off", "disable", "fixed-delay", "fixeddelay", "failure-rate", "failurerate", "exponential-delay", "exponentialdelay"]),
        None,
        "How a failed job restarts. Not set: `exponential-delay` with checkpointing, else `none`.";
    RESTART_FIXED_ATTEMPTS = "restart-strategy.fixed-delay.attempts", [], ValueType::Int, Some("1"),
        "How many failures lead to a restart before the job fails.";
    RESTART_FIXED_DELAY = "restart-strategy.fixed-delay.delay", [], ValueType::Duration, Some("1 s"),
        "Time between a failure and the restart.";
    RESTART_RATE_MAX_FAILURES = "restart-strategy.failure-rate.max-failures-per-interval", [], ValueType::Int, Some("1"),
        "How many failures within the interval lead to a restart.";
    RESTART_RATE_INTERVAL = "restart-strategy.failure-rate.failure-rate-interval", [], ValueType::Duration, Some("1 min"),
        "The interval in which failures are counted.";
    RESTART_RATE_DELAY = "restart-strategy.failure-rate.delay", [], ValueType::Duration, Some("1 s"),
        "Time between a failure and the restart.";
    RESTART_EXPONENTIAL_INITIAL = "restart-strategy.exponential-delay.initial-backoff", [], ValueType::Duration, Some("1 s"),
        "The first delay.";
    RESTART_EXPONENTIAL_MAX = "restart-strategy.exponential-delay.max-backoff", [], ValueType::Duration, Some("1 min"),
        "The longest delay.";
    RESTART_EXPONENTIAL_MULTIPLIER = "restart-strategy.exponential-delay.backoff-multiplier", [], ValueType::Float, Some("1.5"),
        "By what the delay grows from one restart to the next. More than 1.";
    RESTART_EXPONENTIAL_RESET = "restart-strategy.exponential-delay.reset-backoff-threshold", [], ValueType::Duration, Some("1 h"),
        "After running for so long the delay begins anew.";
    RESTART_EXPONENTIAL_JITTER = "restart-strategy.exponential-delay.jitter-factor", [], ValueType::Float, Some("0.1"),
        "Random share of the delay that is added or taken away, from 0 to 1.";
    RESTART_EXPONENTIAL_ATTEMPTS = "restart-strategy.exponential-delay.attempts-before-reset-backoff", [], ValueType::Int, Some("2147483647"),
        "How many restarts may follow each other before the job fails.";
}
