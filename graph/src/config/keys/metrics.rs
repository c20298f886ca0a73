//! Metrics.

use super::{ConfigOption, ValueType};

options! {
    METRICS_PORT = "hurtig.metrics.port", [], ValueType::Port, Some("0"),
        "Port, or range of ports, of the Prometheus endpoint (`/metrics`) of a JobManager or TaskManager. 0: any free port. Not set: the port of a Prometheus reporter, if one is configured.";
    METRICS_REPORTERS = "metrics.reporters", [], ValueType::String, None,
        "Which of the configured reporters are used. Not set: all. A reporter NAME is configured by `metrics.reporter.NAME.factory.class` (only Prometheus's has an effect) and `metrics.reporter.NAME.port`, a port or a range of which each process takes the first that is free (9249 if not set).";
    METRICS_REFRESH = "metrics.fetcher.update-interval", [], ValueType::Duration, Some("10 s"),
        "Flink's interval between metric fetches. Hurtig's TaskManagers report every second.";
    METRICS_LATENCY_INTERVAL = "metrics.latency.interval", [], ValueType::Duration, Some("0 ms"),
        "Interval of latency markers. Not supported yet.";
}
