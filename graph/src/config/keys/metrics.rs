//! Metrics.

use super::{ConfigOption, ValueType};

options! {
    METRICS_PORT = "hurtig.metrics.port", [], ValueType::Port, Some("0"),
        "Port of the Prometheus endpoint (`/metrics`) of a JobManager or TaskManager. 0: any free port.";
    METRICS_REPORTERS = "metrics.reporters", [], ValueType::String, None,
        "Names of Flink's reporters. Hurtig always serves Prometheus metrics.";
    METRICS_REFRESH = "metrics.fetcher.update-interval", [], ValueType::Duration, Some("10 s"),
        "Flink's interval between metric fetches. Hurtig's TaskManagers report every second.";
    METRICS_LATENCY_INTERVAL = "metrics.latency.interval", [], ValueType::Duration, Some("0 ms"),
        "Interval of latency markers. Not supported yet.";
}
